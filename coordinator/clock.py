"""The coordinator's only clocks; ``coordinator.main`` passes them to all other parts."""

from __future__ import annotations

import time


def now_mono_ms() -> float:
    """Milliseconds on the monotonic clock: for deadlines and durations."""
    return time.monotonic() * 1000.0


def now_unix_ms() -> int:
    """Milliseconds since 1970 in UTC: for records and expiry, never for deadlines."""
    return time.time_ns() // 1_000_000
