"""What of a trace may leave the zones that its request was bound to: counts and times, no names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.residency import may_leave
from protos.v1 import trace_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Fields of a trace that stay: names, texts, times of single tokens, and what tells a model.
_STAYS = (
    "account",
    "client_request_id",
    "cold_start",
    "deployment",
    "error",
    "model",
    "token_gaps_us",
)
#: Of its attempts.
_STAYS_OF_ATTEMPT = ("candidates", "detail")


def lines_for(
    zone: str, lines: Iterable[trace_pb2.TraceSummary], wanted: trace_pb2.TraceFilter
) -> list[trace_pb2.TraceSummary]:
    """Return the lines of a list as they may go to ``zone``; an empty one is in no zone.

    Those without a name are left out of the list of one deployment: to be in it names them.
    """
    found = []
    for line in lines:
        if may_leave(line.zones, zone):
            found.append(line)
        elif not wanted.deployment:
            nameless = trace_pb2.TraceSummary()
            nameless.CopyFrom(line)
            nameless.ClearField("deployment")
            nameless.withheld = True
            found.append(nameless)
    return found


def trace_for(zone: str, trace: trace_pb2.Trace | None) -> trace_pb2.Trace | None:
    """Return a trace as it may go to ``zone``."""
    if trace is None or may_leave(trace.zones, zone):
        return trace
    nameless = trace_pb2.Trace()
    nameless.CopyFrom(trace)
    for name in _STAYS:
        nameless.ClearField(name)  # type: ignore[arg-type]
    for attempt in nameless.attempts:
        for name in _STAYS_OF_ATTEMPT:
            attempt.ClearField(name)  # type: ignore[arg-type]
    nameless.withheld = True
    return nameless
