"""``edgeforge node``: hosts, and the tokens they enrol with."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.output import as_json, enum_word
from protos.domain.addresses import join_address
from protos.domain.errors import NotFound
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import admin_pb2, fleet_pb2, resources_pb2
from protos.wire import service_from_wire

_GIB = 1024**3

app = group("node", "Hosts of the fleet, and the tokens they enrol with.")
token_app = group("token", "One-time tokens: each enrols one host.")
app.add_typer(token_app)


@token_app.command("create")
def create_token(
    pop: Annotated[str, typer.Option(help="The POP that the host is in.")],
    node: Annotated[str, typer.Option(help="Its name; empty: the coordinator names it.")] = "",
    ttl_s: Annotated[int, typer.Option(help="Seconds until it expires.")] = 3_600,
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
        ("node", "pop", "health", "intent", "link", "engine", "in progress", "replicas"),
        (_row(info) for info in nodes),
        "no nodes yet; enrol one: edgeforge node token create --pop POP",
    )


@app.command("show")
def show_node(node: str, json_output: JsonOption = False) -> None:
    """Show one host: its replicas, tables and ages.

    Example: edgeforge node show gru-1
    """
    found = [info for info in _nodes() if info.node.id == node]
    if not found:
        raise NotFound(f"no node {node}", "edgeforge node ls lists them")
    info = found[0]
    if json_output:
        print_json(as_json(info))
        return
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
            ("link", _link(info)),
            ("requests", str(service_from_wire(info.service))),
            ("credentials age", f"{info.credentials_age_s:.0f} s"),
            ("certificate age", f"{info.certificate_age_s / 86_400:.1f} days"),
            *(("replica", _replica(one)) for one in info.replicas),
            *(("table", _table(info, have)) for have in info.have),
        ),
        "",
    )


@app.command("rm")
def remove_node(node: str) -> None:
    """Remove a host for good: its certificate is refused from then on.

    Example: edgeforge node rm gru-1
    """
    with admin() as client:
        client.call(lambda stub: stub.RemoveNode, admin_pb2.RemoveNodeRequest(node_id=node))
    print_line(f"removed {node}")


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
        _link(info),
        info.engine_kind or "-",
        info.in_flight_requests,
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


def _link(info: admin_pb2.NodeInfo) -> str:
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
    error = replica.error
    return f"{replica.model} {state}" + (f" ({error})" if error else "")


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
