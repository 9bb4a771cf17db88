"""One direction of a delayed connection: items leave in order and not before their time.

Pure: time is an argument of every call.
"""

from __future__ import annotations

import enum
import math
from collections import deque

#: Bytes held in one direction before its sender is no longer read.
MAX_HELD_BYTES = 16 * 1024 * 1024


class Mark(enum.Enum):
    """Events of a connection beside its bytes; they are delayed like bytes."""

    END = "end"
    RESET = "reset"


Item = bytes | Mark


class DelayLine:
    """Delays by ``one_way_ms``; what is sent before ``opens_mono_ms`` counts as sent then.

    ``opens_mono_ms`` is when the sender's side would be established over the distance: the relay's
    own kernel accepts at once, a distant host only after a round trip.
    """

    def __init__(self, one_way_ms: float, opens_mono_ms: float) -> None:
        self._one_way_ms = one_way_ms
        self._opens_mono_ms = opens_mono_ms
        self._items: deque[tuple[float, Item]] = deque()
        self._blocked = False
        self.held_bytes = 0

    @property
    def full(self) -> bool:
        """Whether the sender must wait."""
        return self.held_bytes >= MAX_HELD_BYTES

    @property
    def has_room(self) -> bool:
        """Whether a sender that had to wait may continue."""
        return self.held_bytes <= MAX_HELD_BYTES // 2

    @property
    def next_due_mono_ms(self) -> float | None:
        """When the next item is due; None while the line is empty."""
        if not self._items or self._items[0][0] == math.inf:
            return None
        return self._items[0][0]

    def put(self, item: Item, now_mono_ms: float) -> None:
        """Send ``item``."""
        due = math.inf if self._blocked else self._due(now_mono_ms)
        self._items.append((due, item))
        if isinstance(item, bytes):
            self.held_bytes += len(item)

    def take_due(self, now_mono_ms: float) -> list[Item]:
        """Return the items that are due, in order."""
        arrived: list[Item] = []
        while self._items and self._items[0][0] <= now_mono_ms:
            item = self._items.popleft()[1]
            if isinstance(item, bytes):
                self.held_bytes -= len(item)
            arrived.append(item)
        return arrived

    def block(self) -> None:
        """Hold what is sent from now on; earlier items still leave."""
        self._blocked = True

    def unblock(self, now_mono_ms: float) -> None:
        """Send the held items now."""
        self._blocked = False
        due = self._due(now_mono_ms)
        self._items = deque((min(was_due, due), item) for was_due, item in self._items)

    def drop_all(self) -> None:
        """Drop all items: the receiver is gone."""
        self._items.clear()
        self.held_bytes = 0

    def _due(self, now_mono_ms: float) -> float:
        return max(now_mono_ms, self._opens_mono_ms) + self._one_way_ms
