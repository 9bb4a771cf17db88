"""``edgeforge deployment``: deployments and their pins to nodes."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli import completion
from coordinator.cli.client import AdminClient
from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.output import as_json, enum_word
from protos.domain.errors import InvalidRequest, NotFound
from protos.domain.resources import SlaTier
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import admin_pb2, resources_pb2

app = group("deployment", "What customers call: a model, a first-token budget, where it may run.")

DeploymentArgument = Annotated[str, typer.Argument(autocompletion=completion.deployments)]
NodeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--node",
        help="Hold the model on this node; repeatable.",
        autocompletion=completion.nodes,
    ),
]
ZoneOption = Annotated[
    list[str] | None, typer.Option("--zone", help="Serve in this zone only; repeatable.")
]
_SLA_TIERS = {
    SlaTier.REALTIME: resources_pb2.SLA_TIER_REALTIME,
    SlaTier.INTERACTIVE: resources_pb2.SLA_TIER_INTERACTIVE,
    SlaTier.STANDARD: resources_pb2.SLA_TIER_STANDARD,
}


@app.command("create")
def create_deployment(
    name: Annotated[str, typer.Argument(help='What clients put into "model".')],
    model: Annotated[
        str,
        typer.Option(help="owner/name@version of the registry.", autocompletion=completion.models),
    ],
    account: Annotated[str, typer.Option(help="Whose it is.", autocompletion=completion.accounts)],
    budget_ms: Annotated[int, typer.Option(help="P99 first token under this.", min=1)],
    node: NodeOption = None,
    sla: Annotated[str, typer.Option(help="realtime, interactive or standard.")] = "standard",
    zone: ZoneOption = None,
    strict: Annotated[bool, typer.Option(help="Refuse what would miss the budget.")] = False,
    continue_streams: Annotated[
        bool, typer.Option(help="Go on with a broken stream from another replica.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Create a deployment and hold its model on the nodes named.

    Example: edgeforge deployment create chat --model acme/llama@1 --account acme --budget-ms 150
    --node iad-1
    """
    deployment = resources_pb2.Deployment(
        name=name,
        account_id=account,
        model=model,
        ttft_budget_ms=budget_ms,
        sla_tier=sla_tier(sla),
        residency_zones=zone or (),
        strict=strict,
        continue_streams=continue_streams,
    )
    request = admin_pb2.ApplyDeploymentRequest(
        deployment=deployment, node_ids=node or (), create_only=True
    )
    with admin() as client:
        info = client.call(lambda stub: stub.ApplyDeployment, request)
    _print_one(info, json_output)


@app.command("set")
def set_deployment(
    name: DeploymentArgument,
    model: Annotated[
        str | None,
        typer.Option(help="Another model or version.", autocompletion=completion.models),
    ] = None,
    budget_ms: Annotated[int | None, typer.Option(help="Another budget.", min=1)] = None,
    node: NodeOption = None,
    sla: Annotated[str | None, typer.Option(help="Another SLA tier.")] = None,
    zone: ZoneOption = None,
    strict: Annotated[bool | None, typer.Option(help="Refuse what would miss.")] = None,
    continue_streams: Annotated[
        bool | None, typer.Option(help="Go on with a broken stream from another replica.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Change a deployment; what is not named stays.

    Example: edgeforge deployment set chat --budget-ms 200 --node iad-1 --node gru-1
    """
    with admin() as client:
        info = _find(client, name)
        changed = info.deployment
        if model is not None:
            changed.model = model
        if budget_ms is not None:
            changed.ttft_budget_ms = budget_ms
        if sla is not None:
            changed.sla_tier = sla_tier(sla)
        if zone is not None:
            changed.residency_zones[:] = zone
        if strict is not None:
            changed.strict = strict
        if continue_streams is not None:
            changed.continue_streams = continue_streams
        # A deployment whose last node was removed stays pinned, to none, until a node is named.
        request = admin_pb2.ApplyDeploymentRequest(
            deployment=changed, node_ids=node if node is not None else info.node_ids
        )
        info = client.call(lambda stub: stub.ApplyDeployment, request)
    _print_one(info, json_output)


@app.command("ls")
def list_deployments(json_output: JsonOption = False) -> None:
    """List the deployments and where their replicas are.

    Example: edgeforge deployment ls
    """
    with admin() as client:
        infos = _all(client)
    if json_output:
        print_json([as_json(info) for info in infos])
        return
    print_table(
        ("deployment", "account", "model", "budget", "sla", "zones", "nodes", "replicas"),
        (
            (
                info.deployment.name,
                info.deployment.account_id,
                info.deployment.model,
                f"{info.deployment.ttft_budget_ms} ms" + (" strict" * info.deployment.strict),
                enum_word(resources_pb2.SlaTier.Name(info.deployment.sla_tier), "SLA_TIER_"),
                ", ".join(info.deployment.residency_zones) or "any",
                _nodes_of(info),
                _replicas(info) or "none",
            )
            for info in infos
        ),
        "no deployments yet; edgeforge deployment create makes one",
    )


@app.command("show")
def show_deployment(name: DeploymentArgument, json_output: JsonOption = False) -> None:
    """Show one deployment.

    Example: edgeforge deployment show chat
    """
    with admin() as client:
        info = _find(client, name)
    _print_one(info, json_output)


@app.command("rm")
def remove_deployment(name: DeploymentArgument, json_output: JsonOption = False) -> None:
    """Remove a deployment; its model's replicas go when nothing else wants them.

    Example: edgeforge deployment rm chat
    """
    request = admin_pb2.RemoveDeploymentRequest(name=name)
    with admin() as client:
        client.call(lambda stub: stub.RemoveDeployment, request)
    if json_output:
        print_json({"name": name})
    else:
        print_line(f"removed {name}")


def _all(client: AdminClient) -> list[admin_pb2.DeploymentInfo]:
    request = admin_pb2.ListDeploymentsRequest()
    return list(client.call(lambda stub: stub.ListDeployments, request).deployments)


def _find(client: AdminClient, name: str) -> admin_pb2.DeploymentInfo:
    for info in _all(client):
        if info.deployment.name == name:
            return info
    raise NotFound(f"no deployment {name!r}", "edgeforge deployment ls lists them")


def sla_tier(word: str) -> resources_pb2.SlaTier.ValueType:
    try:
        return _SLA_TIERS[SlaTier(word)]
    except ValueError:
        raise InvalidRequest(
            f"{word!r} is no SLA tier", "use realtime, interactive or standard", param="sla"
        ) from None


def _replicas(info: admin_pb2.DeploymentInfo) -> str:
    return ", ".join(_replica(one, info.errors.get(one.node_id, "")) for one in info.replicas)


def _replica(replica: resources_pb2.Replica, error: str) -> str:
    state = enum_word(resources_pb2.ReplicaState.Name(replica.state), "REPLICA_STATE_")
    return f"{replica.node_id} {state}" + (f" ({error})" if error else "")


def _nodes_of(info: admin_pb2.DeploymentInfo) -> str:
    """Return where it may be served."""
    if info.node_ids:
        return ", ".join(info.node_ids)
    return "none left" if info.deployment.is_pinned else "any with a replica"


def _print_one(info: admin_pb2.DeploymentInfo, json_output: bool) -> None:
    if json_output:
        print_json(as_json(info))
        return
    deployment = info.deployment
    replicas = _replicas(info) or "none yet"
    print_line(f"{deployment.name}: {deployment.model}, budget {deployment.ttft_budget_ms} ms")
    print_line(f"  account {deployment.account_id}, nodes {_nodes_of(info)}")
    if deployment.continue_streams:
        print_line("  a broken stream goes on from another replica")
    print_line(f"  replicas {replicas}")
