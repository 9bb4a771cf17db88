"""``edgeforge trace``: traces of finished requests, from the agents that served them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from coordinator.cli import completion
from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.output import as_json
from coordinator.cli.trace_view import trace_picture
from protos.domain.errors import InvalidRequest
from protos.domain.pricing import format_usd
from protos.domain.service import SHED_STATUSES, Service, service_of
from protos.output.terminal import (
    print_json,
    print_line,
    print_picture,
    print_progress,
    print_table,
)
from protos.v1 import admin_pb2, trace_pb2
from protos.wire import trace_from_wire

app = group("trace", "What happened to single requests: latency and cost, part by part.")

_COLUMNS = (
    "trace",
    "at (UTC)",
    "deployment",
    "via",
    "served by",
    "tier",
    "status",
    "budget ms",
    "first token ms",
    "whole ms",
    "missed",
    "USD",
    "",
)

ViaOption = Annotated[
    str,
    typer.Option(
        help="Node or POP whose agents are asked; all if not given.",
        autocompletion=completion.places,
    ),
]


@app.command("ls")
def list_traces(
    deployment: Annotated[
        str, typer.Option(help="Only this deployment's.", autocompletion=completion.deployments)
    ] = "",
    via: ViaOption = "",
    slow: Annotated[bool, typer.Option("--slow", help="Slowest first token first.")] = False,
    missed: Annotated[
        bool, typer.Option("--missed", help="Only those over their budget, or predicted so.")
    ] = False,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=500)] = 20,
    after: Annotated[str, typer.Option(help="Go on where a list ended: it says how.")] = "",
    json_output: JsonOption = False,
) -> None:
    """List finished requests, newest first. Agents that could not be asked are named.

    Example: edgeforge trace ls --deployment chat --missed
    """
    order = trace_pb2.TRACE_ORDER_SLOWEST if slow else trace_pb2.TRACE_ORDER_NEWEST
    asked = trace_pb2.TraceFilter(deployment=deployment, missed=missed, order=order, limit=limit)
    if after:
        asked.after.CopyFrom(_cursor(after))
    request = admin_pb2.ListTracesRequest(filter=asked, via=via)
    with admin() as client:
        response = client.call(lambda stub: stub.ListTraces, request)
    if json_output:
        print_json(as_json(response))
        return
    print_table(
        _COLUMNS,
        map(_row, response.traces),
        "no traces",
    )
    if response.traces:
        print_line(f"these: {_service(response.traces)}")
    for one in response.unsearched:
        print_progress(f"not searched: {one.node_id}: {one.reason}")
    if response.HasField("next"):
        print_progress(f"more: --after {response.next.value!r}:{response.next.trace_id}")


@app.command("show")
def show(
    trace_id: Annotated[
        str, typer.Argument(metavar="ID", help="The x-edgeforge-trace-id of the answer.")
    ],
    via: ViaOption = "",
    json_output: JsonOption = False,
) -> None:
    """Draw one request's latency and cost, part by part, and its candidates.

    Example: edgeforge trace show 8f14e45fceea167a5a36dedd4bea2543
    """
    request = admin_pb2.GetTraceRequest(trace_id=trace_id, via=via)
    with admin() as client:
        message = client.call(lambda stub: stub.GetTrace, request)
    if json_output:
        print_json(as_json(message))
    else:
        print_picture(trace_picture(trace_from_wire(message)))


def _service(lines: Sequence[trace_pb2.TraceSummary]) -> Service:
    """Return the service level of the listed requests, shed ones included."""
    shed = sum(line.status in SHED_STATUSES for line in lines)
    felt_ms = [line.felt_ttft_ms for line in lines if line.HasField("felt_ttft_ms")]
    return service_of(felt_ms, admitted=len(lines) - shed, shed=shed)


def _cursor(text: str) -> trace_pb2.TraceCursor:
    value, _, trace_id = text.partition(":")
    try:
        return trace_pb2.TraceCursor(value=float(value), trace_id=trace_id)
    except ValueError:
        raise InvalidRequest(
            f"--after {text[:80]!r} is no place in a list", "a list that goes on prints it"
        ) from None


def _row(line: trace_pb2.TraceSummary) -> tuple[object, ...]:
    at = datetime.fromtimestamp(line.began_unix_ms / 1_000, UTC)
    missed = "predicted" if line.predicted_miss else "yes" if line.missed else ""
    notes = [
        word
        for word, applies in (
            ("client gone", line.client_gone),
            ("clock jumped", line.clock_jumped),
            ("names stay in its zones", line.withheld),
        )
        if applies
    ]
    return (
        line.trace_id,
        f"{at:%m-%d %H:%M:%S}",
        line.deployment,
        line.ingress_node_id,
        line.node_id or "-",
        line.serving_tier or "-",
        line.status or "-",
        f"{line.budget_ms:.0f}",
        f"{line.felt_ttft_ms:.1f}" if line.HasField("felt_ttft_ms") else "-",
        f"{line.ended_ms:.1f}",
        missed,
        format_usd(line.cost_nano_usd),
        ", ".join(notes),
    )
