"""What the pulls of a node share: where bytes come from, what they may use, and their counters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.core.chunk_planner import PullPolicy

if TYPE_CHECKING:
    from agent.artifacts.sources import Origin, Peers
    from agent.core.pull_budget import PullBudget


@dataclass(slots=True)
class PullStats:
    """Counters of all pulls of this node."""

    pulled_bytes: int = 0
    origin_bytes: int = 0
    peer_bytes: int = 0
    wrong_pieces: int = 0
    abandoned: int = 0


@dataclass(slots=True)
class Means:
    """What every pull of a node uses."""

    origin: Origin
    peers: Peers
    budget: PullBudget
    now_mono_ms: Callable[[], float]
    draw: Callable[[], float]
    policy: PullPolicy = field(default_factory=PullPolicy)
    stats: PullStats = field(default_factory=PullStats)
    #: (object, node) -> until when it is not asked, because it sent wrong bytes.
    struck: dict[tuple[str, str], float] = field(default_factory=dict)
