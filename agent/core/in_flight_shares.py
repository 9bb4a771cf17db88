"""How many requests of each owner are in progress on a port. Pure.

Owners are accounts on the client port, and the nodes that ask on the peer port. An owner may have
so many times what is left of the limit: one alone gets eight ninths of it, and another one always
finds room, however many the first has. Source: Choudhury, Hahne, "Dynamic Queue Length Thresholds
for Shared-Memory Packet Switches", IEEE/ACM ToN 1998.
"""

from __future__ import annotations

from protos.domain.errors import Overloaded

#: How many times what is left one owner may have.
_TIMES_LEFT = 8


class InFlightShares:
    """Requests in progress by owner; bounded by the limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._of_owner: dict[str, int] = {}
        self.total = 0

    def enter(self, owner: str) -> None:
        """Count a request of ``owner``. Raises: Overloaded. Hot."""
        left, own = self._limit - self.total, self._of_owner.get(owner, 0)
        if left <= 0 or (own > 0 and own >= _TIMES_LEFT * left):
            raise Overloaded(
                f"too many requests in progress here: {own} of its owner",
                "send fewer at a time, or retry after the given time",
                retry_after_s=1.0,
            )
        self._of_owner[owner] = own + 1
        self.total += 1

    def leave(self, owner: str) -> None:
        """Count no longer a request that entered. Hot."""
        left = self._of_owner[owner] - 1
        if left:
            self._of_owner[owner] = left
        else:
            del self._of_owner[owner]
        self.total -= 1
