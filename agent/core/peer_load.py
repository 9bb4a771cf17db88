"""The load that a node reports, in its answers to probes and in its response headers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class PeerLoad:
    """``in_flight`` requests are served, ``queued`` wait. ``fill_ratio`` None: not reported."""

    in_flight: int
    queued: int
    fill_ratio: float | None
    draining: bool = False
