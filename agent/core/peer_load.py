"""How loaded a node reports to be: in the answers to probes, and on the responses it gives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class PeerLoad:
    """``in_flight`` requests are served there, ``queued`` wait. ``fill_ratio``: None: not said."""

    in_flight: int
    queued: int
    fill_ratio: float | None
    draining: bool = False
