"""A limit of bytes a second that may be saved up for a moment. Pure."""

from __future__ import annotations

import math

#: What is saved up at most, in seconds of the limit.
_SAVED_S = 1.0


class TokenBucket:
    """Bytes that may be used now: ``bytes_per_s`` of them come in a second; 0: no limit.

    Once ``least_bytes`` are there, that many can be taken, however low the limit is.
    """

    def __init__(self, bytes_per_s: float, least_bytes: int, now_mono_ms: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._most_bytes = max(float(least_bytes), bytes_per_s * _SAVED_S)
        self._left_bytes = self._most_bytes
        self._counted_mono_ms = now_mono_ms

    def take(self, size_bytes: int, now_mono_ms: float) -> bool:
        """Take ``size_bytes`` if that many are left."""
        if not self._bytes_per_s:
            return True
        self._refill(now_mono_ms)
        if size_bytes > self._left_bytes:
            return False
        self._left_bytes -= size_bytes
        return True

    def give_back(self, size_bytes: int) -> None:
        """Return bytes that were taken and not used."""
        self._left_bytes = min(self._most_bytes, self._left_bytes + size_bytes)

    def wait_ms(self, size_bytes: int, now_mono_ms: float) -> float:
        """Return how long it is until ``size_bytes`` can be taken; infinite if never."""
        if not self._bytes_per_s:
            return 0.0
        self._refill(now_mono_ms)
        if size_bytes > self._most_bytes:
            return math.inf
        return max(0.0, size_bytes - self._left_bytes) / self._bytes_per_s * 1_000

    def _refill(self, now_mono_ms: float) -> None:
        came = max(0.0, now_mono_ms - self._counted_mono_ms) / 1_000 * self._bytes_per_s
        self._left_bytes = min(self._most_bytes, self._left_bytes + came)
        self._counted_mono_ms = max(self._counted_mono_ms, now_mono_ms)
