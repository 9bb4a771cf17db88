"""The agent's only clocks; ``agent.main`` passes them to every part."""

from __future__ import annotations

import time


def now_mono_ms() -> float:
    """Return milliseconds on the monotonic clock: for deadlines and durations."""
    return time.monotonic() * 1000.0


def now_unix_ms() -> int:
    """Return milliseconds since 1970 in UTC: for records and expiry, never for deadlines."""
    return time.time_ns() // 1_000_000
