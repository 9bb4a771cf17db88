"""Whether an engine makes progress: the evidence for it, and when its absence is a stall. Pure.

Progress is a token that was relayed, an answered probe, or a change of the engine's own counters.
A request that is not answered is no evidence: it may wait behind others.
"""

from __future__ import annotations

import math

#: An engine's counters as it prints them, a line each; only equality is used.
Counters = tuple[bytes, ...]


class EngineLiveness:
    """The progress of one engine process; times are monotonic milliseconds."""

    def __init__(self, stall_timeout_ms: float) -> None:
        self._stall_timeout_ms = stall_timeout_ms
        #: The latest evidence of progress; -inf before the first.
        self.progress_mono_ms = -math.inf
        self._counters: Counters | None = None
        #: When the counters were first read since the latest progress; -inf: not yet.
        self._first_read_mono_ms = -math.inf

    @property
    def stalls_at_ms(self) -> float:
        """When the engine counts as stalled unless it makes progress before.

        What the counters did between the latest progress and their first reading is unknown, so
        the time counts from that reading.
        """
        return max(self.progress_mono_ms, self._first_read_mono_ms) + self._stall_timeout_ms

    @property
    def counters_moved_last(self) -> bool:
        """Whether the latest progress is known from the counters."""
        return self._counters is not None and self._first_read_mono_ms == self.progress_mono_ms

    def forget(self) -> None:
        """Start again, for another process."""
        self.progress_mono_ms = -math.inf
        self._drop_counters()

    def progressed(self, at_mono_ms: float) -> bool:
        """Take evidence from ``at_mono_ms``; return whether it is later than what was known."""
        if at_mono_ms <= self.progress_mono_ms:
            return False
        self.progress_mono_ms = at_mono_ms
        if at_mono_ms >= self._first_read_mono_ms:
            self._drop_counters()
        return True

    def read(self, counters: Counters | None, now_mono_ms: float) -> bool:
        """Take a reading of the counters, None if there is none; return whether they moved."""
        if counters is None:
            return False
        if self._counters is None:
            self._counters, self._first_read_mono_ms = counters, now_mono_ms
            return False
        if counters == self._counters:
            return False
        self._counters = counters
        self.progress_mono_ms = self._first_read_mono_ms = now_mono_ms
        return True

    def _drop_counters(self) -> None:
        self._counters = None
        self._first_read_mono_ms = -math.inf
