"""Chooses the targets that get warm connections, when there are too many for all. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: This share of the places goes to the nearest targets whatever their demand, so that a good target
#: without traffic yet can be found.
NEAREST_SHARE = 0.125


@dataclass(frozen=True, slots=True)
class WarmCandidate:
    """A node that holds a replica. ``placements``: this agent's recent requests, decayed by age."""

    node_id: str
    is_ready: bool
    placements: float
    rtt_ms: float


def choose_warm(candidates: Iterable[WarmCandidate], most: int) -> list[str]:
    """Return the nodes to keep warm, highest demand first: at most ``most``.

    Sorted by demand, then ready before loading, then by distance; a share is for the nearest.
    """
    listed = list(candidates)
    by_demand = sorted(listed, key=_by_demand)
    if len(listed) <= most:
        return [one.node_id for one in by_demand]
    reserved = int(most * NEAREST_SHARE)
    chosen = dict.fromkeys(one.node_id for one in by_demand[: most - reserved])
    for one in sorted(listed, key=_by_distance):
        if len(chosen) >= most:
            break
        chosen.setdefault(one.node_id)
    return list(chosen)


def _by_demand(one: WarmCandidate) -> tuple[float, bool, float, str]:
    return -one.placements, not one.is_ready, one.rtt_ms, one.node_id


def _by_distance(one: WarmCandidate) -> tuple[bool, float, str]:
    return not one.is_ready, one.rtt_ms, one.node_id
