"""``edgeforge plan``: what each node is to hold, why, and what operators say about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli import completion
from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.output import as_json
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import deploy_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from protos.v1 import deploy_pb2_grpc

app = group("plan", "What each node is to hold, and why; freeze it, pin, forbid.")

NameArgument = Annotated[
    str, typer.Argument(help="owner/name@version.", autocompletion=completion.models)
]
PopsOption = Annotated[
    list[str] | None,
    typer.Option("--pop", help="Only at this POP; repeatable.", autocompletion=completion.pops),
]
PopOption = Annotated[
    str, typer.Option("--pop", help="At one node of this POP.", autocompletion=completion.pops)
]
NodeOption = Annotated[
    str, typer.Option("--node", help="At this node.", autocompletion=completion.nodes)
]
#: Moves carried out lately that are printed.
_SHOWN = 20


@app.command("show")
def show_plan(
    node: Annotated[
        str, typer.Option(help="Only this node.", autocompletion=completion.nodes)
    ] = "",
    json_output: JsonOption = False,
) -> None:
    """Show what each node is to hold and why, what would move, and what was moved lately.

    Where the plan is not frozen it is carried out by itself.

    Example: edgeforge plan show --node gru-1
    """
    with admin() as client:
        info = client.call_deploys(
            lambda stub: stub.ShowPlan, deploy_pb2.ShowPlanRequest(node_id=node)
        )
    if json_output:
        print_json(as_json(info))
        return
    print_table(
        ("node", "holds", "how", "why"),
        ((one.node_id, one.name, one.hold, one.why) for one in info.holds),
        "no node is to hold anything; edgeforge deploy create asks for something",
    )
    _print_moves("would move", info.pending)
    _print_moves("moved lately", info.recent[:_SHOWN])
    for unplaced in info.unplaced:
        at = f" at {unplaced.node_id}" if unplaced.node_id else ""
        print_line(f"not placed: {unplaced.deployment}{at}: {unplaced.reason}")
    _print_rules(info)


@app.command("freeze")
def freeze_plan(pop: PopsOption = None, json_output: JsonOption = False) -> None:
    """Hold what nodes have; the plan goes on being made, and `plan apply` carries it out.

    What no deployment may have there any more is dropped all the same.

    Example: edgeforge plan freeze --pop GRU
    """
    request = deploy_pb2.FreezePlanRequest(pop_ids=pop or (), everywhere=not pop)
    _order(lambda stub: stub.FreezePlan, request, json_output)


@app.command("unfreeze")
def unfreeze_plan(pop: PopsOption = None, json_output: JsonOption = False) -> None:
    """Let the plan be carried out by itself again.

    Example: edgeforge plan unfreeze
    """
    request = deploy_pb2.UnfreezePlanRequest(pop_ids=pop or (), everywhere=not pop)
    _order(lambda stub: stub.UnfreezePlan, request, json_output)


@app.command("apply")
def apply_plan(pop: PopsOption = None, json_output: JsonOption = False) -> None:
    """Carry out the plan once where it is frozen, and print what moves.

    Example: edgeforge plan apply --pop GRU
    """
    request = deploy_pb2.ApplyPlanRequest(pop_ids=pop or ())
    with admin() as client:
        info = client.call_deploys(lambda stub: stub.ApplyPlan, request)
    if json_output:
        print_json(as_json(info))
    elif info.pending:
        _print_moves("moves", info.pending)
    else:
        print_line("nothing moves")


@app.command("pin")
def pin_plan(
    name: NameArgument, pop: PopOption = "", node: NodeOption = "", json_output: JsonOption = False
) -> None:
    """Hold a model hot at a node, or at one node of a POP, whatever is asked for there.

    Example: edgeforge plan pin acme/llama-8b@1 --pop GRU
    """
    request = deploy_pb2.PlanRule(name=name, pop_id=pop, node_id=node)
    _order(lambda stub: stub.PinPlan, request, json_output)


@app.command("forbid")
def forbid_plan(
    name: NameArgument, pop: PopOption = "", node: NodeOption = "", json_output: JsonOption = False
) -> None:
    """Hold a model or an adapter nowhere at a POP or a node, even if a deployment is pinned there.

    Example: edgeforge plan forbid acme/llama-8b@1 --node gru-1
    """
    request = deploy_pb2.PlanRule(name=name, pop_id=pop, node_id=node)
    _order(lambda stub: stub.ForbidPlan, request, json_output)


@app.command("release")
def release_plan(
    name: NameArgument, pop: PopOption = "", node: NodeOption = "", json_output: JsonOption = False
) -> None:
    """Remove a pin or a prohibition.

    Example: edgeforge plan release acme/llama-8b@1 --pop GRU
    """
    request = deploy_pb2.PlanRule(name=name, pop_id=pop, node_id=node)
    _order(lambda stub: stub.ReleasePlan, request, json_output)


def _order(
    method: Callable[[deploy_pb2_grpc.DeploysStub], Callable[..., deploy_pb2.PlanInfo]],
    request: object,
    json_output: bool,
) -> None:
    with admin() as client:
        info = client.call_deploys(method, request)
    if json_output:
        print_json(as_json(info))
        return
    _print_rules(info)
    _print_moves("would move", info.pending)


def _print_moves(title: str, moves: Iterable[deploy_pb2.PlanMove]) -> None:
    found = list(moves)
    if not found:
        return
    print_line("")
    print_table(
        ("node", title, "from", "to", "why"),
        ((one.node_id, one.name, one.before or "-", one.after or "-", one.why) for one in found),
        "",
    )


def _print_rules(info: deploy_pb2.PlanInfo) -> None:
    for word, rules in (("pinned", info.pins), ("forbidden", info.forbids)):
        for rule in rules:
            place = f"node {rule.node_id}" if rule.node_id else f"POP {rule.pop_id}"
            print_line(f"{word}: {rule.name} at {place}, by {rule.by}")
    if info.frozen:
        said = ", ".join(f"{one.pop_id} by {one.by}" for one in info.frozen)
        print_line(f"frozen: {said}")
