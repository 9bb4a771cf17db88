"""Which nodes may have pieces of an object, and which of its pieces a node asks the origin for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from agent.core.chunk_planner import Rank
from protos.domain.holding import may_hold

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import Node

#: Nodes asked whether they have pieces of an object.
MAX_ASKED = 32
#: Pieces whose number is the same modulo this belong to the same node's share.
_SHARE_GROUPS = 256


def candidates(view: FleetView, here: str, name: str, most: int = MAX_ASKED) -> dict[str, Rank]:
    """Return the nodes to ask for pieces of ``name`` and their ranks, the most promising first.

    Of the table only, and only such as may hold the object. Those that have a replica of it come
    first, then those of this POP, then those of its zone; other zones are not asked.
    """
    mine = view.nodes.get(here)
    if mine is None or not name or not may_hold(view, here, name):
        return {}
    rows = {**view.replicas.get(name, {}), **view.adapter_replicas.get(name, {})}
    found: list[tuple[Rank, bool, str]] = []
    for node in view.nodes.values():
        rank = rank_of(view, mine, node)
        if rank is not None and node.peer_port and node.id != here:
            found.append((rank, node.id not in rows, node.id))
    found.sort(key=lambda one: (one[1], one[0], _weight(one[2], name.encode())))
    chosen: dict[str, Rank] = {}
    for rank, _, node_id in found:
        if len(chosen) >= most:
            break
        if may_hold(view, node_id, name):
            chosen[node_id] = rank
    return chosen


def is_source(view: FleetView, here: str, node_id: str, name: str) -> bool:
    """Return whether ``here`` may ask ``node_id`` for pieces of ``name``, by the table. Hot."""
    mine, other = view.nodes.get(here), view.nodes.get(node_id)
    return (
        mine is not None
        and other is not None
        and node_id != here
        and bool(other.peer_port)
        and rank_of(view, mine, other) is not None
        and may_hold(view, here, name)
        and may_hold(view, node_id, name)
    )


def rank_of(view: FleetView, mine: Node, other: Node) -> Rank | None:
    """Return how near ``other`` is; None for another zone."""
    if other.pop_id == mine.pop_id:
        return Rank.POP
    here, there = view.pops.get(mine.pop_id), view.pops.get(other.pop_id)
    if here is None or there is None or here.zone != there.zone:
        return None
    return Rank.ZONE


def own_share(here: str, others: Iterable[str], pieces: int, name: str) -> int:
    """Return the pieces (bit n for piece n) that ``here`` asks the origin for, of all that pull.

    Every node that knows of the same others comes to the same shares, which do not overlap.
    """
    members = sorted({here, *others})
    if len(members) == 1:
        return (1 << pieces) - 1
    pattern = 0
    for group in range(_SHARE_GROUPS):
        key = f"{name}\0{group}".encode()
        if max((_weight(one, key), one) for one in members)[1] == here:
            pattern |= 1 << group
    whole = pattern.to_bytes(_SHARE_GROUPS // 8, "little") * -(-pieces // _SHARE_GROUPS)
    return int.from_bytes(whole, "little") & ((1 << pieces) - 1)


def _weight(node_id: str, key: bytes) -> bytes:
    """Return a node's weight for ``key``: the highest wins (rendezvous hashing)."""
    return hashlib.blake2b(key, key=node_id.encode()[:64], digest_size=8).digest()


def have_of_files(files: Iterable[tuple[str, int]], haves: Mapping[str, int]) -> int:
    """Return the pieces of an object that a peer has.

    ``files`` are digest and number of pieces of each file, in the order of the object's pieces.
    """
    have, at = 0, 0
    for digest, count in files:
        have |= (haves.get(digest, 0) & ((1 << count) - 1)) << at
        at += count
    return have
