"""What the link tells of itself: connected or not, since when, and how old what it holds is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

NEVER_CONFIRMED_S = float("inf")


@dataclass(slots=True)
class LinkStatus:
    """Shown in ``edgeforge-agent status`` and in the metrics."""

    connected: bool = False
    since_mono_ms: float = 0.0
    connects: int = 0
    failures_in_a_row: int = 0
    last_error: str = ""
    #: Coordinator's clock less ours: for records, never for deadlines.
    clock_offset_ms: float = 0.0
    #: Set when the coordinator says that this node is not, or no longer, of the fleet.
    refused: str = ""


@dataclass(slots=True)
class CredentialsAge:
    """How long ago the coordinator last confirmed the keys; a jumping clock does not change it."""

    now_mono_ms: Callable[[], float]
    _age_at_mark_s: float = NEVER_CONFIRMED_S
    _mark_mono_ms: float = field(default=0.0)

    def confirm(self) -> None:
        """The coordinator has just confirmed them."""
        self._age_at_mark_s, self._mark_mono_ms = 0.0, self.now_mono_ms()

    def restore(self, confirmed_unix_ms: int, now_unix_ms: int) -> None:
        """They were confirmed in an earlier life of this agent; 0 is never."""
        if confirmed_unix_ms > 0:
            self._age_at_mark_s = max(0, now_unix_ms - confirmed_unix_ms) / 1_000
            self._mark_mono_ms = self.now_mono_ms()

    def age_s(self) -> float:
        """Seconds since the last confirmation; infinite when there never was one."""
        return self._age_at_mark_s + (self.now_mono_ms() - self._mark_mono_ms) / 1_000

    def confirmed_unix_ms(self, now_unix_ms: int) -> int:
        """When that was, for a record on disk; 0 is never."""
        if self._age_at_mark_s == NEVER_CONFIRMED_S:
            return 0
        return now_unix_ms - int(self.age_s() * 1_000)
