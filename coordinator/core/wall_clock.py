"""Whether the wall clock may be believed for what cannot be taken back, such as a month's close.

Between two looks the wall clock and the monotonic one advance alike. While they do not, nothing is
believed. A difference of up to ``max_jump_ms`` is believed after it was steady for ``settle_ms``; a
greater jump forward only when an operator confirms it, or never, once the clock is right again.
Across a restart nothing monotonic is left: an absence of up to ``absence_ms`` is believed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: Clocks that differ by no more than this between two looks are in step.
TOLERANCE_MS = 120_000
SETTLE_MS = 6 * 3_600_000
MAX_JUMP_MS = 24 * 3_600_000
ABSENCE_MS = 8 * 24 * 3_600_000


@dataclass(slots=True)
class WallClock:
    """``believed_unix_ms`` is what was believed last, before a restart too; 0: nothing yet."""

    believed_unix_ms: int = 0
    settle_ms: int = SETTLE_MS
    max_jump_ms: int = MAX_JUMP_MS
    absence_ms: int = ABSENCE_MS
    _believed_mono_ms: float | None = field(default=None, repr=False)
    #: Since the start nothing was believed, so that it is not known for how long it was away.
    _was_absent: bool = field(default=False, repr=False)
    _off_ms: float = field(default=0.0, repr=False)
    _off_since_mono_ms: float | None = field(default=None, repr=False)

    def look(self, now_unix_ms: int, now_mono_ms: float) -> bool:
        """Return whether ``now_unix_ms`` is believed."""
        if self._believed_mono_ms is None:
            if not self.believed_unix_ms:
                return self._believe(now_unix_ms, now_mono_ms)
            self._believed_mono_ms, self._was_absent = now_mono_ms, True
        expected_ms = self.believed_unix_ms + now_mono_ms - self._believed_mono_ms
        off_ms = now_unix_ms - expected_ms
        if -TOLERANCE_MS <= off_ms <= (self.absence_ms if self._was_absent else TOLERANCE_MS):
            return self._believe(now_unix_ms, now_mono_ms)
        if self._off_since_mono_ms is None or abs(off_ms - self._off_ms) > TOLERANCE_MS:
            self._off_ms, self._off_since_mono_ms = off_ms, now_mono_ms
        steady_ms = now_mono_ms - self._off_since_mono_ms
        if off_ms <= self.max_jump_ms and steady_ms >= self.settle_ms:
            return self._believe(now_unix_ms, now_mono_ms)
        return False

    def estimate(self, now_unix_ms: int, now_mono_ms: float) -> int:
        """Return the time to act by: the wall clock's, or what it would be had it not jumped."""
        expected_ms = self.believed_unix_ms
        if self._believed_mono_ms is not None:
            expected_ms += int(now_mono_ms - self._believed_mono_ms)
        elif not expected_ms or -TOLERANCE_MS <= now_unix_ms - expected_ms <= self.absence_ms:
            return now_unix_ms
        return now_unix_ms if abs(now_unix_ms - expected_ms) <= TOLERANCE_MS else expected_ms

    def confirm(self, now_unix_ms: int, now_mono_ms: float) -> None:
        """Believe the clock as it is: an operator says so."""
        self._believe(now_unix_ms, now_mono_ms)

    @property
    def off_ms(self) -> float:
        """By how much the clock is ahead of what is believed; 0: it is believed."""
        return 0.0 if self._off_since_mono_ms is None else self._off_ms

    def _believe(self, now_unix_ms: int, now_mono_ms: float) -> bool:
        self.believed_unix_ms, self._believed_mono_ms = now_unix_ms, now_mono_ms
        self._off_since_mono_ms, self._was_absent = None, False
        return True
