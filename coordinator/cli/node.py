"""``edgeforge node``: hosts, and the tokens they enrol with."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from coordinator.cli import completion
from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.node_usage import usage_of, usage_problem_of
from coordinator.cli.output import as_json, enum_word
from protos.domain.addresses import join_address
from protos.domain.errors import Conflict, NotFound
from protos.output.terminal import confirmed, print_json, print_line, print_table
from protos.v1 import admin_pb2, fleet_pb2, resources_pb2
from protos.wire import service_from_wire

NodeArgument = Annotated[str, typer.Argument(autocompletion=completion.nodes)]

_GIB = 1024**3
_DAY_S = 86_400
#: Longer than between two reports of an agent.
_RATE_OVER_S = 2.5
#: Code of the refusal to remove the last host that a deployment is pinned to.
_LAST_PIN = "last_pin"

app = group("node", "Hosts of the fleet, and the tokens they enrol with.")
token_app = group("token", "One-time tokens: each enrols one host.")
app.add_typer(token_app)


@token_app.command("create")
def create_token(
    pop: Annotated[
        str, typer.Option(help="The POP that the host is in.", autocompletion=completion.pops)
    ],
    node: Annotated[str, typer.Option(help="Its name; empty: the coordinator names it.")] = "",
    ttl_s: Annotated[int, typer.Option(help="Seconds until it expires.", min=1)] = 3_600,
    json_output: JsonOption = False,
) -> None:
    """Create a token for one host. It is shown once.

    Example: edgeforge node token create --pop GRU | ssh host edgeforge-agent enroll --token-file -
    """
    request = admin_pb2.CreateNodeTokenRequest(pop_id=pop, node_id=node, ttl_s=ttl_s)
    with admin() as client:
        response = client.call(lambda stub: stub.CreateNodeToken, request)
    if json_output:
        print_json(as_json(response))
    else:
        print_line(response.token)


@app.command("ls")
def list_nodes(json_output: JsonOption = False) -> None:
    """List the hosts: health, link, engine, replicas.

    Example: edgeforge node ls
    """
    nodes = _nodes()
    if json_output:
        print_json([as_json(info) for info in nodes])
        return
    print_table(
        ("node", "pop", "health", "intent", "link", "engine", "in progress", "usage", "replicas"),
        (_row(info) for info in nodes),
        "no nodes yet; enrol one: edgeforge node token create --pop POP",
    )


@app.command("show")
def show_node(node: NodeArgument, json_output: JsonOption = False) -> None:
    """Show one host: its engine, disk, what it holds and pulls, cold starts, tables and ages.

    The rate of a pull is measured over two reports, which takes some seconds.

    Example: edgeforge node show gru-1
    """
    info = _find(node)
    if json_output:
        print_json(as_json(info))
        return
    before: dict[str, int] = {}
    if any(_is_pulling(one) for one in info.replicas):
        before = {_held_name(one): one.pulled_bytes for one in info.replicas}
        time.sleep(_RATE_OVER_S)
        info = _find(node)
    print_table(
        ("what", "value"),
        (
            ("node", f"{info.node.id} in {info.node.pop_id}"),
            ("health", _health(info.node)),
            ("intent", _intent(info.node)),
            *(("order", line) for line in _order_lines(info)),
            *(("fault", _fault(one)) for one in info.faults),
            *(("claim", one.detail) for one in info.claims),
            *(("accelerator", _accelerator(one)) for one in info.accelerators),
            ("peers dial", _peer_address(info)),
            ("clients call", info.node.client_url),
            ("agent", f"{info.agent_version}, engine {info.engine_kind}"),
            ("link", link_of(info)),
            ("requests", str(service_from_wire(info.service))),
            ("credentials age", f"{info.credentials_age_s:.0f} s"),
            ("certificate", _certificate(info)),
            ("clock", _clock(info)),
            ("engines hold", engines_of(info)),
            ("disk of models", disk_of(info)),
            ("records of usage", usage_of(info)),
            *(("replica", _replica(one) + _rate(one, before)) for one in info.replicas),
            *(("cold starts", cold_starts_of(one)) for one in info.cold_starts),
            *(("table", _table(info, have)) for have in info.have),
        ),
        "",
    )


@app.command("rm")
def remove_node(
    node: NodeArgument,
    force: Annotated[
        bool, typer.Option("--force", help="Even if it is the last host of a deployment's pins.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Remove a host for good: it serves nobody from then on, and its certificate is refused.

    A terminal asks before a deployment loses its last pinned host; elsewhere that needs --force.

    Example: edgeforge node rm gru-1
    """
    request = admin_pb2.RemoveNodeRequest(node_id=node, force=force)
    with admin() as client:
        try:
            client.call(lambda stub: stub.RemoveNode, request)
        except Conflict as refused:
            if refused.code != _LAST_PIN or not confirmed(f"{refused.message}; remove it?"):
                raise
            request.force = True
            client.call(lambda stub: stub.RemoveNode, request)
    if json_output:
        print_json({"id": node})
    else:
        print_line(f"removed {node}")


@app.command("replace")
def replace_node(old: str, new: str, json_output: JsonOption = False) -> None:
    """Give the pins of host OLD to host NEW, enrolled already, and remove OLD.

    Example: edgeforge node replace gru-1 gru-2
    """
    request = admin_pb2.ReplaceNodeRequest(old_node_id=old, new_node_id=new)
    with admin() as client:
        response = client.call(lambda stub: stub.ReplaceNode, request)
    if json_output:
        print_json(as_json(response))
        return
    print_line(f"{new} replaces {old}; pins moved: {', '.join(response.deployments) or 'none'}")


def _find(node: str) -> admin_pb2.NodeInfo:
    """Raises: NotFound."""
    found = [info for info in _nodes() if info.node.id == node]
    if not found:
        raise NotFound(f"no node {node}", "edgeforge node ls lists them")
    return found[0]


def _nodes() -> list[admin_pb2.NodeInfo]:
    with admin() as client:
        response = client.call(lambda stub: stub.ListNodes, admin_pb2.ListNodesRequest())
    return list(response.nodes)


def _row(info: admin_pb2.NodeInfo) -> tuple[object, ...]:
    node = info.node
    told = [*(_replica(one) for one in info.replicas), *(one.detail for one in info.claims)]
    replicas = ", ".join(told) or "-"
    return (
        node.id,
        node.pop_id,
        _health(node),
        _intent(node),
        link_of(info),
        info.engine_kind or "-",
        info.in_flight_requests,
        usage_of(info),
        replicas,
    )


def _health(node: resources_pb2.Node) -> str:
    return enum_word(resources_pb2.NodeHealth.Name(node.health), "NODE_HEALTH_")


def _intent(node: resources_pb2.Node) -> str:
    intent = enum_word(resources_pb2.NodeIntent.Name(node.intent), "NODE_INTENT_")
    return f"{intent}: {node.intent_reason}" if node.intent_reason else intent


def _order_lines(info: admin_pb2.NodeInfo) -> list[str]:
    return describe_order(info.order) if info.HasField("order") else []


def _fault(fault: fleet_pb2.AcceleratorFault) -> str:
    severity = "fatal" if fault.fatal else "warning"
    waits = "" if fault.active else ", gone; edgeforge node resume takes the host back"
    return f"{severity}: {fault.detail}{waits}"


def _accelerator(one: fleet_pb2.Accelerator) -> str:
    parts = [f"{one.index} {one.name} {one.id}"]
    if one.lost:
        parts.append("lost")
    if one.HasField("utilisation_ratio"):
        parts.append(f"{one.utilisation_ratio:.0%} busy")
    if one.HasField("memory_used_bytes"):
        parts.append(
            f"{one.memory_used_bytes / _GIB:.1f} of {one.memory_total_bytes / _GIB:.1f} GiB"
        )
    if one.HasField("temperature_celsius"):
        parts.append(f"{one.temperature_celsius:.0f} C")
    if one.HasField("power_watts"):
        parts.append(f"{one.power_watts:.0f} W")
    if one.HasField("ecc_uncorrected"):
        parts.append(f"ECC {one.ecc_corrected} corrected, {one.ecc_uncorrected} not")
    if one.clock_reasons:
        parts.append("slowed by " + ", ".join(one.clock_reasons))
    return ", ".join(parts)


def alarms_of(info: admin_pb2.NodeInfo) -> list[str]:
    """Return what is wrong with a host, one line each."""
    alarms = [_fault(one) for one in info.faults if one.active]
    if info.twin:
        alarms.append(f"two hosts use this identity: {info.twin}")
    if info.peer_dial.failure:
        alarms.append(f"peers cannot reach it: {info.peer_dial.failure}")
    if info.disk.trouble:
        alarms.append(f"disk of models: {info.disk.trouble}")
    if info.connected and (problem := usage_problem_of(info)):
        alarms.append(f"usage: {problem}")
    if info.renewal_error:
        alarms.append(f"certificate not renewed: {info.renewal_error}")
    alarms += [f"claim: {one.kind}: {one.detail}" for one in info.claims]
    return alarms + [f"order: {line}" for line in _order_lines(info)]


def certificate_days_of(info: admin_pb2.NodeInfo) -> float | None:
    """Return how long a host's certificate is valid still; None: it has not said so yet."""
    remaining_s = info.certificate_remaining_s
    return remaining_s / _DAY_S if remaining_s else None


def _certificate(info: admin_pb2.NodeInfo) -> str:
    text = f"made {info.certificate_age_s / _DAY_S:.1f} days ago"
    if info.certificate_remaining_s:
        text += f", {info.certificate_remaining_s / _DAY_S:.1f} days left"
    return f"{text}; not renewed: {info.renewal_error}" if info.renewal_error else text


def _clock(info: admin_pb2.NodeInfo) -> str:
    offset_s = info.clock_offset_ms / 1_000
    side = "behind" if offset_s > 0 else "ahead of"
    return f"{abs(offset_s):.1f} s {side} the coordinator's"


def link_of(info: admin_pb2.NodeInfo) -> str:
    """Return whether a host is connected, and since when it is not."""
    if info.twin:
        return f"two hosts use this identity, the second is refused: {info.twin}"
    if info.connected:
        failure = info.peer_dial.failure
        return f"connected, but peers cannot reach it: {failure}" if failure else "connected"
    if info.last_status_age_s < 0:
        return "not seen yet"
    return f"silent for {info.last_status_age_s:.0f} s"


def _peer_address(info: admin_pb2.NodeInfo) -> str:
    if not info.node.peer_host:
        return "not known yet"
    address = join_address(info.node.peer_host, info.node.peer_port)
    if not info.HasField("peer_dial"):
        return address
    dial = info.peer_dial
    result = f"failed for {dial.by}: {dial.failure}" if dial.failure else f"reached by {dial.by}"
    return f"{address}, {result}, {dial.age_s:.0f} s ago"


def _replica(replica: fleet_pb2.ReplicaStatus) -> str:
    state = enum_word(resources_pb2.ReplicaState.Name(replica.state), "REPLICA_STATE_")
    text = f"{_held_name(replica)} {state}"
    if replica.state == resources_pb2.REPLICA_STATE_COLD:
        where = enum_word(resources_pb2.Residency.Name(replica.residency), "RESIDENCY_")
        text += f", on {where}"
    if _is_pulling(replica):
        done = replica.pulled_bytes / replica.total_bytes
        text += f", {done:.0%} of {replica.total_bytes / 1e6:.0f} MB"
    return text + (f" ({replica.error})" if replica.error else "")


def _held_name(replica: fleet_pb2.ReplicaStatus) -> str:
    return f"{replica.model} with {replica.adapter}" if replica.adapter else replica.model


def _is_pulling(replica: fleet_pb2.ReplicaStatus) -> bool:
    return replica.total_bytes > 0 and replica.pulled_bytes < replica.total_bytes


def _rate(replica: fleet_pb2.ReplicaStatus, before: dict[str, int]) -> str:
    """Return how fast it is pulled, for one that was pulled before too."""
    name = _held_name(replica)
    if name not in before or not _is_pulling(replica):
        return ""
    per_s = max(0, replica.pulled_bytes - before[name]) / _RATE_OVER_S
    return f", {per_s / 1e6:.1f} MB/s"


def engines_of(info: admin_pb2.NodeInfo) -> str:
    """Return what a host's engines can hold."""
    parts = [
        f"{max(1, info.max_engines)} at once, {info.accelerator_kind or 'accelerator unknown'}"
    ]
    if info.engine_version:
        parts.append(f"version {info.engine_version}")
    if info.weights_memory_bytes:
        parts.append(f"models to {info.weights_memory_bytes / 1e9:.2f} GB")
    if info.max_adapters:
        parts.append(f"{info.max_adapters} adapters to rank {info.max_adapter_rank}")
    return ", ".join(parts)


def disk_of(info: admin_pb2.NodeInfo) -> str:
    """Return how full the disk of a host's models is."""
    if not info.HasField("disk"):
        return "not reported"
    disk = info.disk
    quota = f"{disk.quota_bytes / 1e9:.2f} GB" if disk.quota_bytes else "no quota"
    text = f"{disk.used_bytes / 1e9:.2f} of {quota}, {disk.pinned_bytes / 1e9:.2f} GB pinned"
    return f"{text}; {disk.trouble}" if disk.trouble else text


def cold_starts_of(one: fleet_pb2.ColdStarts) -> str:
    """Return how long one path took, from where the weights were."""
    where = enum_word(resources_pb2.Residency.Name(one.residency), "RESIDENCY_")
    return (
        f"{one.path} from {where}: {one.count}, median {one.p50_ms:.0f} ms,"
        f" P99 {one.p99_ms:.0f} ms, {one.ms_per_gb:.0f} ms per GB"
    )


def _table(info: admin_pb2.NodeInfo, have: fleet_pb2.Have) -> str:
    kind = enum_word(resources_pb2.ResourceType.Name(have.type), "RESOURCE_TYPE_")
    behind = all(have != current for current in info.current)
    suffix = "" if not behind else ", not the current one"
    return f"{kind} at {have.epoch}.{have.version}{suffix}"


def describe_order(order: admin_pb2.NodeOrder) -> list[str]:
    """Return a host's order and its moves, a line each."""
    kind = enum_word(admin_pb2.NodeOrderKind.Name(order.kind), "NODE_ORDER_KIND_")
    lines = [f"{kind} by {order.by}" + (f", {order.phase}" if order.phase else "")]
    for move in order.moves:
        where = move.node_id or f"nowhere: {move.reason}"
        done = ", ready" if move.ready else ""
        lines.append(f"{move.deployment} ({move.model}) to {where}{done}")
    return lines
