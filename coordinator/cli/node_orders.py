"""``edgeforge node drain | cordon | resume | retire``: orders for a host."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from coordinator.cli.common import JsonOption, admin
from coordinator.cli.node import NodeArgument, app, describe_order
from coordinator.cli.output import as_json, enum_word
from protos.domain.errors import DeadlineExceeded, NotFound
from protos.output.terminal import print_json, print_line, print_progress
from protos.v1 import admin_pb2, resources_pb2

__all__ = ["app"]

_POLL_S = 0.5

ReasonOption = Annotated[str, typer.Option(help="Shown beside the host: one line.")]
TimeoutOption = Annotated[float, typer.Option(help="Seconds to wait for it to be retired.")]


@app.command("drain")
def drain_node(
    node: NodeArgument, reason: ReasonOption = "", json_output: JsonOption = False
) -> None:
    """Drain a host's engine: no new requests, running ones end. Other hosts serve its clients.

    Example: edgeforge node drain gru-1 --reason "new power supply"
    """
    _print_order(_order(node, admin_pb2.NODE_ORDER_KIND_DRAIN, reason), json_output)


@app.command("cordon")
def cordon_node(
    node: NodeArgument, reason: ReasonOption = "", json_output: JsonOption = False
) -> None:
    """Plan no new model onto a host; it keeps serving those it holds.

    Example: edgeforge node cordon gru-1
    """
    _print_order(_order(node, admin_pb2.NODE_ORDER_KIND_CORDON, reason), json_output)


@app.command("resume")
def resume_node(node: NodeArgument, json_output: JsonOption = False) -> None:
    """End a drain, a cordon or a retirement, also one that followed from a repaired fault.

    Refused while a fault is active. Pins that a retirement moved are not moved back.

    Example: edgeforge node resume gru-1
    """
    _print_order(_order(node, admin_pb2.NODE_ORDER_KIND_RESUME, ""), json_output)


@app.command("retire")
def retire_node(
    node: NodeArgument,
    reason: ReasonOption = "",
    force: Annotated[
        bool, typer.Option("--force", help="Retire even if a replica has no target.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Order it and return; node show shows the progress.")
    ] = False,
    timeout_s: TimeoutOption = 1_800.0,
    json_output: JsonOption = False,
) -> None:
    """Retire a host: its replicas move first, then it drains, then it holds no model.

    Example: edgeforge node retire gru-1
    """
    info = _order(node, admin_pb2.NODE_ORDER_KIND_RETIRE, reason, force=force)
    if not no_wait:
        info = _wait_retired(node, info, timeout_s)
    _print_order(info, json_output)


def _order(
    node: str, kind: admin_pb2.NodeOrderKind.ValueType, reason: str, *, force: bool = False
) -> admin_pb2.NodeInfo:
    request = admin_pb2.OrderNodeRequest(node_id=node, kind=kind, reason=reason, force=force)
    with admin() as client:
        return client.call(lambda stub: stub.OrderNode, request)


def _wait_retired(node: str, info: admin_pb2.NodeInfo, timeout_s: float) -> admin_pb2.NodeInfo:
    """Print each step until the host has retired. Raises: DeadlineExceeded."""
    printed: list[str] = []
    polls = max(1, int(timeout_s / _POLL_S))
    with admin() as client:
        for _ in range(polls):
            lines = describe_order(info.order)
            for line in lines:
                if line not in printed:
                    print_progress(line)
            printed = lines
            if info.order.phase == "retired" or not info.HasField("order"):
                return info
            time.sleep(_POLL_S)
            listed = client.call(lambda stub: stub.ListNodes, admin_pb2.ListNodesRequest())
            found = [one for one in listed.nodes if one.node.id == node]
            if not found:
                raise NotFound(f"node {node} was removed meanwhile")
            info = found[0]
    raise DeadlineExceeded(
        f"{node} has not retired within {timeout_s:.0f} s; it goes on: {'; '.join(printed)}",
        "edgeforge node show shows the progress; --force drops replicas that have no target",
    )


def _print_order(info: admin_pb2.NodeInfo, json_output: bool) -> None:
    if json_output:
        print_json(as_json(info))
        return
    intent = enum_word(resources_pb2.NodeIntent.Name(info.node.intent), "NODE_INTENT_")
    if info.HasField("order"):
        print_line(f"{info.node.id}: {'; '.join(describe_order(info.order))}")
    else:
        print_line(f"{info.node.id}: resumed, {intent} until the fleet has heard")
