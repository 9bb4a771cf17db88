"""``edgeforge deploy``: a model, an adapter and a runtime behind one name, and its history."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli import completion
from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.deploy_view import print_deploy, print_deploys, wait_until_done
from coordinator.cli.deployment import sla_tier
from coordinator.cli.output import as_json
from coordinator.cli.quantities import duration_ms, percent
from protos.domain.errors import InvalidRequest
from protos.output.terminal import print_json, print_line
from protos.v1 import admin_pb2, deploy_pb2, resources_pb2

app = group(
    "deploy", "Put a model, with an adapter and a runtime, behind a name; change it; go back."
)

NameArgument = Annotated[str, typer.Argument(autocompletion=completion.deployments)]
NodeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--node",
        help="Serve it from this node only; repeatable. Without: where it is asked for.",
        autocompletion=completion.nodes,
    ),
]
ResidencyOption = Annotated[
    list[str] | None,
    typer.Option("--residency", "--zone", help="Hold and serve it in this zone only; repeatable."),
]
DetachOption = Annotated[
    bool, typer.Option("--detach", help="Return at once; what was begun goes on.")
]
TimeoutOption = Annotated[
    str | None,
    typer.Option(
        help="How long it may take to be ready; then it is withdrawn: 30m, 2h. Without: 1h."
    ),
]
BudgetOption = Annotated[
    str | None, typer.Option("--ttft-p99", help="P99 of the first token: 80ms, 1.5s.")
]


@app.command("create")
def create_deploy(
    name: Annotated[str, typer.Argument(help='What clients put into "model": acme/support.')],
    model: Annotated[
        str,
        typer.Option(
            help="owner/name@version; without a version: the latest.",
            autocompletion=completion.models,
        ),
    ],
    ttft_p99: Annotated[str, typer.Option(help="P99 of the first token: 80ms, 1.5s.")],
    adapter: Annotated[str, typer.Option(help="A LoRA adapter for that model.")] = "",
    runtime: Annotated[str, typer.Option(help="How engines are started for it.")] = "",
    account: Annotated[
        str,
        typer.Option(
            help="Whose it is; else what is before the slash of NAME.",
            autocompletion=completion.accounts,
        ),
    ] = "",
    sla: Annotated[str, typer.Option(help="realtime, interactive or standard.")] = "standard",
    residency: ResidencyOption = None,
    strict: Annotated[bool, typer.Option(help="Refuse what would miss the budget.")] = False,
    max_premium: Annotated[
        str, typer.Option(help="Most above the cheapest central price: 25%. 0: no limit.")
    ] = "0",
    node: NodeOption = None,
    continue_streams: Annotated[
        bool, typer.Option(help="Go on with a broken stream from another replica.")
    ] = False,
    detach: DetachOption = False,
    json_output: JsonOption = False,
) -> None:
    """Create a deployment, and wait until it is served, saying what for.

    Ctrl-C ends the waiting, not the deployment.

    Example: edgeforge deploy create acme/support --model acme/llama-8b --adapter acme/support-lora
    --ttft-p99 80ms --sla realtime --residency EU --strict --max-premium 25%
    """
    owner, slash, _ = name.partition("/")
    if not account and not slash:
        raise InvalidRequest(
            f"whose is {name!r}?", "write --account ACCOUNT, or name it ACCOUNT/NAME"
        )
    request = deploy_pb2.DeployRequest(
        deployment=resources_pb2.Deployment(
            name=name,
            account_id=account or owner,
            model=model,
            adapter=adapter,
            runtime=runtime,
            ttft_budget_ms=duration_ms(ttft_p99, "ttft-p99"),
            sla_tier=sla_tier(sla),
            residency_zones=residency or (),
            strict=strict,
            continue_streams=continue_streams,
            max_premium_percent=percent(max_premium, "max-premium"),
        ),
        node_ids=node or (),
    )
    with admin() as client:
        status = client.call_deploys(lambda stub: stub.CreateDeploy, request)
        if not detach:
            status = wait_until_done(client, status, quiet=json_output)
    print_deploy(status, json_output)


@app.command("update")
def update_deploy(
    name: NameArgument,
    model: Annotated[
        str | None,
        typer.Option(help="Another model or version.", autocompletion=completion.models),
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Another adapter; an empty one removes it.")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option(help="Another runtime; an empty one removes it.")
    ] = None,
    ttft_p99: BudgetOption = None,
    sla: Annotated[str | None, typer.Option(help="Another SLA tier.")] = None,
    residency: ResidencyOption = None,
    anywhere: Annotated[bool, typer.Option(help="No residency any more.")] = False,
    strict: Annotated[bool | None, typer.Option(help="Refuse what would miss.")] = None,
    max_premium: Annotated[str | None, typer.Option(help="Another limit: 25%, 0: none.")] = None,
    node: NodeOption = None,
    unpin: Annotated[bool, typer.Option(help="Pinned to no node any more.")] = False,
    continue_streams: Annotated[
        bool | None, typer.Option(help="Go on with a broken stream from another replica.")
    ] = None,
    timeout: TimeoutOption = None,
    detach: DetachOption = False,
    json_output: JsonOption = False,
) -> None:
    """Change a deployment without a failed request; what is not named stays.

    Another model, adapter or runtime is made ready first, then every agent switches at once. What
    is not ready in time is withdrawn: the present version goes on, and this command fails.

    Example: edgeforge deploy update acme/support --model acme/llama-8b@2
    """
    request = deploy_pb2.UpdateDeployRequest(
        name=name,
        model=model,
        adapter=adapter,
        runtime=runtime,
        ttft_budget_ms=None if ttft_p99 is None else duration_ms(ttft_p99, "ttft-p99"),
        sla_tier=None if sla is None else sla_tier(sla),
        strict=strict,
        continue_streams=continue_streams,
        max_premium_percent=None if max_premium is None else percent(max_premium, "max-premium"),
        residency_zones=residency or (),
        sets_residency=anywhere or residency is not None,
        node_ids=node or (),
        sets_nodes=unpin or node is not None,
        timeout_ms=0 if timeout is None else duration_ms(timeout, "timeout"),
    )
    with admin() as client:
        status = client.call_deploys(lambda stub: stub.UpdateDeploy, request)
        if not detach:
            status = wait_until_done(client, status, quiet=json_output)
    print_deploy(status, json_output)


@app.command("rollback")
def roll_back(
    name: NameArgument,
    to: Annotated[int, typer.Option(help="The revision; without: the one before.", min=0)] = 0,
    timeout: TimeoutOption = None,
    detach: DetachOption = False,
    json_output: JsonOption = False,
) -> None:
    """Return to an earlier revision, or withdraw a change that is still prepared.

    Example: edgeforge deploy rollback acme/support --to 3
    """
    timeout_ms = 0 if timeout is None else duration_ms(timeout, "timeout")
    request = deploy_pb2.RollbackDeployRequest(name=name, revision=to, timeout_ms=timeout_ms)
    with admin() as client:
        status = client.call_deploys(lambda stub: stub.RollbackDeploy, request)
        if not detach:
            status = wait_until_done(client, status, quiet=json_output)
    print_deploy(status, json_output)


@app.command("ls")
def list_deploys(json_output: JsonOption = False) -> None:
    """List the deployments, what they are served from, and what they wait for.

    Example: edgeforge deploy ls
    """
    with admin() as client:
        found = client.call_deploys(lambda stub: stub.ListDeploys, deploy_pb2.ListDeploysRequest())
    if json_output:
        print_json([as_json(one) for one in found.deploys])
    else:
        print_deploys(found.deploys)


@app.command("show")
def show_deploy(name: NameArgument, json_output: JsonOption = False) -> None:
    """Show one deployment: its state at each node, what it waits for, and its revisions.

    Example: edgeforge deploy show acme/support
    """
    request = deploy_pb2.ShowDeployRequest(name=name)
    with admin() as client:
        status = client.call_deploys(lambda stub: stub.ShowDeploy, request)
    print_deploy(status, json_output)


@app.command("rm")
def remove_deploy(name: NameArgument, json_output: JsonOption = False) -> None:
    """Remove a deployment; clients that call it get 404, and what only it needed is let go.

    Example: edgeforge deploy rm acme/support
    """
    request = admin_pb2.RemoveDeploymentRequest(name=name)
    with admin() as client:
        client.call(lambda stub: stub.RemoveDeployment, request)
    if json_output:
        print_json({"removed": name})
    else:
        print_line(f"removed {name}")
