"""Detects jumps of the wall clock, so that requests during one are marked in their log. Pure."""

from __future__ import annotations

#: The wall clock has jumped if it moved by more than this against the monotonic clock between two
#: readings, beyond the slew below.
JUMP_MS = 1_000.0
#: Twice the maximum rate at which NTP slews a clock (500 ppm).
SLEW_RATIO = 0.001


class ClockWatch:
    """Counts the jumps of the wall clock, from readings of both clocks."""

    def __init__(self) -> None:
        self.jumps = 0
        self._unix_ms: float | None = None
        self._mono_ms = 0.0

    def read(self, now_unix_ms: float, now_mono_ms: float) -> int:
        """Take one reading of both clocks; return how many jumps were seen so far. Hot."""
        if self._unix_ms is not None:
            passed_ms = now_mono_ms - self._mono_ms
            moved_ms = now_unix_ms - self._unix_ms - passed_ms
            if abs(moved_ms) > JUMP_MS + SLEW_RATIO * passed_ms:
                self.jumps += 1
        self._unix_ms, self._mono_ms = now_unix_ms, now_mono_ms
        return self.jumps
