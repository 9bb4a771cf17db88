"""Deadlines of many requests with one timer of the event loop; one for each would cost 3 us.

Nearly every deadline is cleared before it is due. Setting one adds an entry to a table, and the
event loop's timer changes only for a deadline that is sooner than all others.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

#: How early the event loop's timer may fire: it counts in whole milliseconds.
_EARLY_MS = 1.0


class Deadlines:
    """For one event loop. Bounded by requests in progress: each clears the deadlines it sets."""

    def __init__(self, now_mono_ms: Callable[[], float]) -> None:
        self._now_mono_ms = now_mono_ms
        self._set: dict[int, tuple[float, Callable[[], None]]] = {}
        self._next_key = 1
        self._timer: asyncio.TimerHandle | None = None
        self._timer_mono_ms = math.inf

    def __len__(self) -> int:
        return len(self._set)

    def set(self, at_mono_ms: float, callback: Callable[[], None]) -> int:
        """Call ``callback`` at ``at_mono_ms``, once; return the key to clear it by. Hot."""
        key = self._next_key
        self._next_key = key + 1
        self._set[key] = (at_mono_ms, callback)
        if at_mono_ms < self._timer_mono_ms:
            self._wind(at_mono_ms)
        return key

    def clear(self, key: int) -> None:
        """Cancel a deadline; one that has passed is ignored. Hot."""
        self._set.pop(key, None)

    def _wind(self, at_mono_ms: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        after_s = max(0.0, at_mono_ms - self._now_mono_ms()) / 1_000
        self._timer = asyncio.get_running_loop().call_later(after_s, self._fire)
        self._timer_mono_ms = at_mono_ms

    def _fire(self) -> None:
        self._timer, self._timer_mono_ms = None, math.inf
        until_mono_ms = self._now_mono_ms() + _EARLY_MS
        due = [key for key, (at_mono_ms, _) in self._set.items() if at_mono_ms <= until_mono_ms]
        try:
            for key in due:
                deadline = self._set.pop(key, None)
                if deadline is not None:  # an earlier one may have cleared it
                    deadline[1]()
        finally:
            next_mono_ms = min((at_mono_ms for at_mono_ms, _ in self._set.values()), default=None)
            if next_mono_ms is not None and next_mono_ms < self._timer_mono_ms:
                self._wind(next_mono_ms)
