"""A share of requests that may get something extra: earned by each, spent by a few. Pure."""

from __future__ import annotations


class RequestShare:
    """Every request earns ``ratio`` of an extra and every extra costs one.

    It begins empty, so the share holds at every moment from the first request on. At most
    ``max_saved`` unused ones are kept.
    """

    def __init__(self, ratio: float, max_saved: float) -> None:
        self._ratio = ratio
        self._max_saved = max_saved
        self._saved = 0.0
        self.requests = 0
        self.sent = 0

    @property
    def enabled(self) -> bool:
        return self._ratio > 0.0

    @property
    def left(self) -> bool:
        """Whether one may be spent now. Hot."""
        return self._saved >= 1.0

    @property
    def share(self) -> float:
        """Extras spent over requests, since the start."""
        return self.sent / self.requests if self.requests else 0.0

    def earn(self) -> None:
        """A request that may get one was placed. Hot."""
        self.requests += 1
        saved = self._saved + self._ratio
        self._saved = saved if saved < self._max_saved else self._max_saved

    def take(self) -> bool:
        """Spend one, if one is left."""
        if not self.left:
            return False
        self._saved -= 1.0
        self.sent += 1
        return True
