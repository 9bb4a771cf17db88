"""The header in which a serving agent reports how long each step took, to the agent that asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.cold_start import ColdStart
from agent.core.peer_load import read_way, way_text
from protos.domain.trace import FarTimes

if TYPE_CHECKING:
    from agent.relay.messages import Header
    from protos.domain.load_term import ColdWay

TIMING_HEADER = b"x-edgeforge-timing"
#: The cold start that the request waited for, as the serving agent reports it.
COLD_START_HEADER = b"x-edgeforge-cold-start"
#: On a refusal of what is not in the engine: how it would be loaded; "none": it would not.
WAY_HEADER = b"x-edgeforge-way"
#: Header with the serving engine's name of the model, if it differs from the model's own name.
ENGINE_MODEL_HEADER = b"x-edgeforge-engine-model"
#: Tells an agent's own refusal from a response of its engine.
REFUSED_HEADER = b"x-edgeforge-refused"
REFUSED_HERE: Header = (REFUSED_HEADER, b"1")
#: A longer time is not valid.
_MAX_MS = 86_400_000.0
#: Nor are more bytes of weights, or a longer header.
_MAX_BYTES = 1 << 50
_MAX_COLD_START_BYTES = 256


def far_times_header(times: FarTimes) -> Header:
    """Return the header for ``times``."""
    times_ms = (times.admission_ms, times.queue_ms, times.engine_ms)
    value = b"admission=%.3f;queue=%.3f;engine=%.3f" % times_ms
    if times.load_ms > 0.0:
        value += b";load=%.3f" % times.load_ms
    return TIMING_HEADER, value


def read_far_times(headers: list[Header]) -> FarTimes | None:
    """Return the times that a peer reported; None if the header is missing or not valid."""
    for name, value in headers:
        if name == TIMING_HEADER:
            parts = dict(part.partition(b"=")[::2] for part in value.split(b";"))
            try:
                times_ms = [float(parts[key]) for key in (b"admission", b"queue", b"engine")]
                times_ms.append(float(parts.get(b"load", 0.0)))
            except (KeyError, ValueError):
                return None
            if all(0.0 <= one <= _MAX_MS for one in times_ms):
                return FarTimes(*times_ms)
            return None
    return None


def cold_start_header(cold: ColdStart, *, began: bool) -> Header:
    """Return the header for ``cold``; ``began``: this request was the first to wait for it."""
    way = way_text(cold.way).encode()
    sizes = (cold.weights_bytes, cold.took_ms, cold.pull_ms, began)
    return COLD_START_HEADER, b"way=%b;bytes=%d;took=%.3f;pull=%.3f;began=%d" % (way, *sizes)


def read_cold_start(headers: list[Header]) -> tuple[ColdStart, bool] | None:
    """Return the cold start that a peer reported, and whether it was begun for this request.

    None if the header is missing or not valid.
    """
    for name, value in headers:
        if name == COLD_START_HEADER and len(value) <= _MAX_COLD_START_BYTES:
            parts = dict(part.partition(b"=")[::2] for part in value.split(b";"))
            way = read_way(parts.get(b"way", b"").decode("latin-1"))
            try:
                weights_bytes = int(parts[b"bytes"])
                took_ms, pull_ms = float(parts[b"took"]), float(parts[b"pull"])
            except (KeyError, ValueError):
                return None
            if way is None or not 0 <= weights_bytes <= _MAX_BYTES:
                return None
            if not 0.0 <= pull_ms <= took_ms <= _MAX_MS:
                return None
            began = parts.get(b"began") == b"1"
            return ColdStart(way.path, way.residency, weights_bytes, took_ms, pull_ms), began
    return None


def way_header(way: ColdWay | None) -> Header:
    """Return the header of a refusal of what is not in the engine."""
    return WAY_HEADER, b"none" if way is None else way_text(way).encode()


def read_stale(headers: list[Header]) -> tuple[bool, ColdWay | None]:
    """Return whether a peer refused what is not in its engine, and how it would be loaded."""
    for name, value in headers:
        if name == WAY_HEADER:
            return True, read_way(value[:_MAX_COLD_START_BYTES].decode("latin-1"))
    return False, None
