"""How many requests of each account are in progress on the client port. Pure.

An account may have so many times what is left of the limit: one alone gets eight ninths of it, and
another one always finds room, however many the first has. Source: Choudhury, Hahne, "Dynamic Queue
Length Thresholds for Shared-Memory Packet Switches", IEEE/ACM ToN 1998.
"""

from __future__ import annotations

from protos.domain.errors import Overloaded

#: How many times what is left one account may have.
_TIMES_LEFT = 8


class InFlightShares:
    """Requests in progress by account; bounded by the limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._of_account: dict[str, int] = {}
        self.total = 0

    def enter(self, account: str) -> None:
        """Count a request of ``account``. Raises: Overloaded. Hot."""
        left, own = self._limit - self.total, self._of_account.get(account, 0)
        if left <= 0 or (own > 0 and own >= _TIMES_LEFT * left):
            raise Overloaded(
                f"too many requests in progress here: {own} of this account",
                "send fewer at a time, or retry after the given time",
                retry_after_s=1.0,
            )
        self._of_account[account] = own + 1
        self.total += 1

    def leave(self, account: str) -> None:
        """Count no longer a request that entered. Hot."""
        left = self._of_account[account] - 1
        if left:
            self._of_account[account] = left
        else:
            del self._of_account[account]
        self.total -= 1
