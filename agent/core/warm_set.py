"""Which targets get warm connections, when not all of them can. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: This share of the places goes to the nearest whatever the demand, so that a target nobody has
#: used yet can be found out to be good.
NEAREST_SHARE = 0.125


@dataclass(frozen=True, slots=True)
class WarmCandidate:
    """A node that holds a replica. ``placements`` are ours of the last minutes, older ones less."""

    node_id: str
    is_ready: bool
    placements: float
    rtt_ms: float


def choose_warm(candidates: Iterable[WarmCandidate], most: int) -> list[str]:
    """Return the nodes to keep warm, the most wanted first: at most ``most``.

    By demand, then ready before coming, then by distance; some places are for the nearest alone.
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
