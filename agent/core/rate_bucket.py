"""A token bucket of one minute's worth: what a cut-off agent counts a rate by. Pure."""

from __future__ import annotations

_MINUTE_MS = 60_000.0


class RateBucket:
    """Refills evenly; may be used at once. What was estimated too low is owed."""

    __slots__ = ("_at_mono_ms", "_left", "limit")

    def __init__(self, limit: float, now_mono_ms: float) -> None:
        self.limit = limit
        self._left = limit
        self._at_mono_ms = now_mono_ms

    def left(self, now_mono_ms: float) -> float:
        """Return what is left of it; below 0: owed."""
        passed_ms = max(0.0, now_mono_ms - self._at_mono_ms)
        self._left = min(self.limit, self._left + passed_ms * self.limit / _MINUTE_MS)
        self._at_mono_ms = now_mono_ms
        return self._left

    def take(self, amount: float) -> None:
        """Take ``amount``, or give back what is below 0."""
        self._left = min(self.limit, self._left - amount)
