"""Bytes of request bodies in memory: one limit for all of them, and a share for each owner.

An owner (an account, or a node that asks for one) may hold as much as is left over: alone, half of
the limit; of two, each a third. So the first never takes what the next one needs, and no share is
configured. What a node asks for is divided among the accounts that it asks for in the same way: one
account's bodies never take the whole share of a node that asks for others too. Source: Choudhury
and Hahne, "Dynamic queue length thresholds", IEEE/ACM ToN 1998.
Nothing waits for bytes, so that bodies which have half arrived cannot block each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.samples import Sample, Samples

if TYPE_CHECKING:
    from collections.abc import Collection

#: Between a node and the account that it asks for, in the name of an owner.
_FOR = " for "


def node_owner(node_id: str, account: str, accounts: Collection[str]) -> str:
    """Return who holds the body of a peer's request; an unknown account has no part of its own."""
    return f"node/{node_id}{_FOR}{account if account in accounts else ''}"


class BodyBudget:
    """Who holds how many bytes. For one event loop."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._by_owner: dict[str, int] = {}
        self.used_bytes = 0
        self.refused = 0

    def take(self, owner: str, size_bytes: int) -> bool:
        """Take ``size_bytes`` for ``owner``; False if that is more than its share. Hot."""
        by_owner = self._by_owner
        held = by_owner.get(owner, 0) + size_bytes
        left = self._limit_bytes - self.used_bytes - size_bytes
        whole, is_part, _ = owner.partition(_FOR)
        if is_part:
            held_by_whole = by_owner.get(whole, 0) + size_bytes
            left -= held_by_whole
        if held > left:
            self.refused += 1
            return False
        by_owner[owner] = held
        if is_part:
            by_owner[whole] = held_by_whole
        self.used_bytes += size_bytes
        return True

    def give_back(self, owner: str, size_bytes: int) -> None:
        """Give back what was taken for ``owner``. Hot."""
        whole, is_part, _ = owner.partition(_FOR)
        self._less(owner, size_bytes)
        if is_part:
            self._less(whole, size_bytes)
        self.used_bytes -= size_bytes

    def _less(self, owner: str, size_bytes: int) -> None:
        left = self._by_owner[owner] - size_bytes
        if left:
            self._by_owner[owner] = left
        else:
            del self._by_owner[owner]

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield the bytes held, and the requests refused for them."""
        yield Sample(
            "edgeforge_request_body_bytes",
            "Bytes of request bodies in memory, of both ports.",
            float(self.used_bytes),
        )
        yield Sample(
            "edgeforge_request_bodies_refused",
            "Requests refused because bodies in memory had reached their limit or share.",
            self.refused,
            counter=True,
        )
