"""A model of one engine's queue: the requests that wait for one of its places, in order. Pure.

Engines do not report when a request leaves their queue; it is derived from the number of places and
the order of arrival. If a request gets its first token while this model says that it waits, the
engine has more places than configured, and the request's waiting time is 0.
"""

from __future__ import annotations

from collections import deque


class Place:
    """One request at the engine, from its arrival to its end."""

    __slots__ = ("entered_mono_ms", "left", "served_mono_ms")

    def __init__(self, entered_mono_ms: float, served_mono_ms: float | None) -> None:
        self.entered_mono_ms = entered_mono_ms
        #: When one of the engine's places was free for it; None while it waits.
        self.served_mono_ms = served_mono_ms
        self.left = False

    def queue_ms(self, first_token_mono_ms: float) -> float:
        """Return how long it waited, given when its first token came."""
        served = self.served_mono_ms
        if served is None or served > first_token_mono_ms:
            return 0.0
        return served - self.entered_mono_ms


class EngineQueue:
    """All requests at one engine, local and from peers. Each enters once and leaves once."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._free = places
        self._waiting: deque[Place] = deque()
        #: Requests that wait for a place.
        self.waiting = 0

    @property
    def serving(self) -> int:
        """Requests that have a place."""
        return self._places - self._free

    def enter(self, now_mono_ms: float) -> Place:
        """Take a place, or wait for one, for a request that is sent to the engine now."""
        if self._free > 0:
            self._free -= 1
            return Place(now_mono_ms, now_mono_ms)
        place = Place(now_mono_ms, None)
        self._waiting.append(place)
        self.waiting += 1
        return place

    def leave(self, place: Place, now_mono_ms: float) -> None:
        """Release ``place`` to the request that has waited longest, if any waits."""
        place.left = True
        if place.served_mono_ms is None:
            self.waiting -= 1
            return  # its entry in the queue is skipped when its turn comes
        while self._waiting:
            heir = self._waiting.popleft()
            if not heir.left:
                heir.served_mono_ms = now_mono_ms
                self.waiting -= 1
                return
        self._free += 1
