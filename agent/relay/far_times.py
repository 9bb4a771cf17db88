"""The header in which a serving agent tells the asking one where its time went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.trace import FarTimes

if TYPE_CHECKING:
    from agent.relay.messages import Header

TIMING_HEADER = b"x-edgeforge-timing"
#: What the serving engine calls the model, where that is not the model's own name.
ENGINE_MODEL_HEADER = b"x-edgeforge-engine-model"
#: What is longer than this is no time of a request.
_MAX_MS = 86_400_000.0


def far_times_header(times: FarTimes) -> Header:
    """Return the header for ``times``."""
    said = (times.admission_ms, times.queue_ms, times.engine_ms)
    return TIMING_HEADER, b"admission=%.3f;queue=%.3f;engine=%.3f" % said


def read_far_times(headers: list[Header]) -> FarTimes | None:
    """Return what a peer told of its time; None when it told nothing that can be believed."""
    for name, value in headers:
        if name == TIMING_HEADER:
            parts = dict(part.partition(b"=")[::2] for part in value.split(b";"))
            try:
                told = [float(parts[key]) for key in (b"admission", b"queue", b"engine")]
            except (KeyError, ValueError):
                return None
            if all(0.0 <= one <= _MAX_MS for one in told):
                return FarTimes(*told)
            return None
    return None
