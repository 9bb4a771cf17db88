"""The header in which a serving agent reports how long each step took, to the agent that asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.trace import FarTimes

if TYPE_CHECKING:
    from agent.relay.messages import Header

TIMING_HEADER = b"x-edgeforge-timing"
#: Header with the serving engine's name of the model, if it differs from the model's own name.
ENGINE_MODEL_HEADER = b"x-edgeforge-engine-model"
#: Tells an agent's own refusal from a response of its engine.
REFUSED_HEADER = b"x-edgeforge-refused"
REFUSED_HERE: Header = (REFUSED_HEADER, b"1")
#: A longer time is not valid.
_MAX_MS = 86_400_000.0


def far_times_header(times: FarTimes) -> Header:
    """Return the header for ``times``."""
    times_ms = (times.admission_ms, times.queue_ms, times.engine_ms)
    return TIMING_HEADER, b"admission=%.3f;queue=%.3f;engine=%.3f" % times_ms


def read_far_times(headers: list[Header]) -> FarTimes | None:
    """Return the times that a peer reported; None if the header is missing or not valid."""
    for name, value in headers:
        if name == TIMING_HEADER:
            parts = dict(part.partition(b"=")[::2] for part in value.split(b";"))
            try:
                times_ms = [float(parts[key]) for key in (b"admission", b"queue", b"engine")]
            except (KeyError, ValueError):
                return None
            if all(0.0 <= one <= _MAX_MS for one in times_ms):
                return FarTimes(*times_ms)
            return None
    return None
