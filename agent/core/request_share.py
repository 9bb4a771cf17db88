"""Limits extra attempts to a share of all requests. Pure."""

from __future__ import annotations


class RequestShare:
    """A token bucket: every request adds ``ratio`` of an extra, every extra takes one.

    It starts empty, so the share is never exceeded. At most ``max_saved`` extras are saved.
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
        """Count a request that may get an extra. Hot."""
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
