"""Whose outcomes one target has learned from, and how many of one account it takes in.

What is learned of a target holds for all accounts. So no account may outweigh the others there, and
streams that ended without a first token, which one client can make at will, count only a few times.
"""

from __future__ import annotations

from collections import deque

#: Outcomes of a target that are looked at together.
WINDOW = 128
#: Other accounts count as users of the target from so many outcomes in the window.
LEAST_OTHERS = 8
#: Streams of one account, cut by its client before the first token, that count in a window.
MOST_ABANDONED = 2
#: Streams of one account, cut by the agent, that count in a window while others use the target:
#: too few for a change of speed.
MOST_CENSORED = 4


class AccountShares:
    """The last outcomes of one target, by account. Bounded by ``WINDOW``."""

    __slots__ = ("_censored", "_counts", "_credit", "_recent")

    def __init__(self) -> None:
        #: Account, and whether it had no first token.
        self._recent: deque[tuple[str, bool]] = deque()
        self._counts: dict[str, int] = {}
        self._censored: dict[str, int] = {}
        #: What is left of each account's right to be learned from.
        self._credit: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._recent)

    def admit(self, account: str, *, censored: bool, abandoned: bool) -> bool:
        """Return whether an outcome of ``account`` is learned from, and count it.

        Of an account with more outcomes than all others together every n-th is, so that it weighs
        as much as they do. ``abandoned``: its client left before the first token.
        """
        own = self._counts.get(account, 0)
        others = len(self._recent) - own
        shared = others >= LEAST_OTHERS
        cut = self._censored.get(account, 0)
        if (abandoned and cut >= MOST_ABANDONED) or (censored and shared and cut >= MOST_CENSORED):
            return False
        self._count(account, censored or abandoned)
        if not shared or own < others:
            return True
        credit = self._credit.get(account, 0.0) + others / (own + 1)
        admitted = credit >= 1.0
        self._credit[account] = credit - 1.0 if admitted else credit
        return admitted

    def _count(self, account: str, censored: bool) -> None:
        if len(self._recent) >= WINDOW:
            oldest, was_censored = self._recent.popleft()
            _take_one(self._counts, oldest)
            if was_censored:
                _take_one(self._censored, oldest)
            if oldest not in self._counts:
                self._credit.pop(oldest, None)
        self._recent.append((account, censored))
        self._counts[account] = self._counts.get(account, 0) + 1
        if censored:
            self._censored[account] = self._censored.get(account, 0) + 1


def _take_one(counts: dict[str, int], account: str) -> None:
    left = counts[account] - 1
    if left:
        counts[account] = left
    else:
        del counts[account]
