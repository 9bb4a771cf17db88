"""Token buckets by key, bounded in number."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_mono_ms: float


class RateLimit:
    """Admits ``burst`` at once and ``per_s`` on average for each key.

    At most ``max_keys`` are kept; beyond that, the key that was idle for longest is dropped.
    """

    def __init__(self, *, per_s: float, burst: float, max_keys: int = 4_096) -> None:
        self._per_s = per_s
        self._burst = burst
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key: str, now_mono_ms: float) -> float:
        """Admit and return 0.0, or refuse and return the seconds until ``key`` is admitted."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(self._burst, now_mono_ms)
            if len(self._buckets) > self._max_keys:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        elapsed_s = max(0.0, now_mono_ms - bucket.at_mono_ms) / 1_000
        bucket.tokens = min(self._burst, bucket.tokens + elapsed_s * self._per_s)
        bucket.at_mono_ms = now_mono_ms
        if bucket.tokens >= 1.0:
            bucket.tokens -= 1.0
            return 0.0
        return (1.0 - bucket.tokens) / self._per_s

    def give_back(self, key: str) -> None:
        """Return what was taken for something that turned out to be of no count."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.tokens = min(self._burst, bucket.tokens + 1.0)

    def __len__(self) -> int:
        return len(self._buckets)
