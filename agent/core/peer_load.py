"""The load that a node reports: written and read here, for answers to probes and for headers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.core.fill import parse_fill_ratio

#: No engine serves, and no queue holds, more requests; a report of more is not valid.
MAX_LOAD = 1_000_000
#: On every answer to another agent.
LOAD_HEADER = b"x-edgeforge-load"


@dataclass(slots=True)
class PeerLoad:
    """``in_flight`` requests are served, ``queued`` wait. ``fill_ratio`` None: not reported."""

    in_flight: int
    queued: int
    fill_ratio: float | None
    draining: bool = False


def load_header(load: PeerLoad) -> tuple[bytes, bytes]:
    """Return the header that reports ``load``."""
    value = b"in_flight=%d;queued=%d" % (load.in_flight, load.queued)
    if load.fill_ratio is not None:
        value += b";fill=%.3f" % load.fill_ratio
    return LOAD_HEADER, value + b";draining=1" if load.draining else value


def load_of(headers: Iterable[tuple[bytes, bytes]]) -> PeerLoad | None:
    """Return the load that a peer reported in its response headers, or None."""
    for name, value in headers:
        if name == LOAD_HEADER:
            parts = dict(part.partition(b"=")[::2] for part in value.split(b";"))
            try:
                in_flight, queued = int(parts.get(b"in_flight", 0)), int(parts.get(b"queued", 0))
            except ValueError:
                return None
            if not (0 <= in_flight <= MAX_LOAD and 0 <= queued <= MAX_LOAD):
                return None
            fill_ratio = parse_fill_ratio(parts.get(b"fill"))
            return PeerLoad(in_flight, queued, fill_ratio, parts.get(b"draining") == b"1")
    return None


def load_fields(load: PeerLoad) -> dict[str, object]:
    """Return ``load`` as fields of an answer to a probe; a draining node names no ready models."""
    return {"in_flight": load.in_flight, "queued": load.queued, "fill": load.fill_ratio}


def load_of_fields(answer: Mapping[str, object]) -> PeerLoad:
    """Return the load in a peer's answer to a probe. Raises: KeyError, TypeError, ValueError."""
    in_flight, queued = answer["in_flight"], answer["queued"]
    if not isinstance(in_flight, int) or not isinstance(queued, int):
        raise TypeError("the load in the answer to a probe is no number of requests")
    if not (0 <= in_flight <= MAX_LOAD and 0 <= queued <= MAX_LOAD):
        raise ValueError("the load in the answer to a probe is not possible")
    return PeerLoad(in_flight, queued, parse_fill_ratio(answer.get("fill")))
