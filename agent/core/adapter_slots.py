"""Which adapters one engine holds, as this agent counts them. Pure.

vLLM 0.32 keeps an adapter after it was unloaded: only its name is forgotten, and its weights leave
when others need their place, the least recently used first. So this ledger counts by itself. An
adapter is *active* in one of the slots that a batch computes with, or *kept*: its name is known to
the engine and its weights are in host memory, so that it becomes active without being read again.

Laws: at most ``max_active`` are active, and at most ``max_known`` active or kept; one that serves a
request, or is being loaded, is never taken out; of the others the least recently used goes first.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from dataclasses import dataclass

from protos.domain.errors import Overloaded

#: Hint to a caller for whom every slot is busy.
_BUSY_RETRY_S = 1.0


class AdapterPlace(enum.StrEnum):
    """Where an adapter of the ledger is."""

    LOADING = "loading"
    ACTIVE = "active"
    KEPT = "kept"


@dataclass(slots=True)
class _Entry:
    place: AdapterPlace
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class SlotPlan:
    """What makes room for an adapter: names to unload, and whether it must be loaded itself."""

    unload: tuple[str, ...]
    load: bool


class AdapterSlots:
    """The ledger of one run of one engine; ``clear`` when another run begins."""

    def __init__(self, max_active: int, max_known: int) -> None:
        if not 0 <= max_active <= max_known:
            raise ValueError(f"0 <= max_active <= max_known does not hold: {max_active}")
        self.max_active = max_active
        self.max_known = max_known
        #: The least recently used first.
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def place_of(self, name: str) -> AdapterPlace | None:
        """Return where ``name`` is; None: not in the engine. Hot."""
        entry = self._entries.get(name)
        return None if entry is None else entry.place

    def is_active(self, name: str) -> bool:
        """Return whether a request may use ``name`` now. Hot."""
        entry = self._entries.get(name)
        return entry is not None and entry.place is AdapterPlace.ACTIVE

    def names(self, place: AdapterPlace) -> list[str]:
        """Return the adapters in ``place``, the least recently used first."""
        return [name for name, entry in self._entries.items() if entry.place is place]

    @property
    def known(self) -> list[str]:
        """Every name that the engine knows, or may know."""
        return list(self._entries)

    def can_take(self, name: str, *, sparing: str = "") -> bool:
        """Return whether there is a slot for ``name`` that is not ``sparing``'s. Hot."""
        if self.max_active == 0:
            return False
        if self.is_active(name):
            return True
        busy = sum(_is_busy(entry) for entry in self._entries.values())
        spared = self._entries.get(sparing)
        if spared is not None and spared.place is AdapterPlace.ACTIVE and not _is_busy(spared):
            busy += 1
        return busy < self.max_active

    def begin(self, name: str) -> SlotPlan:
        """Reserve a slot for ``name``, and return what to do before it is used.

        Raises: Overloaded (retryable) while every slot serves requests or is being filled.
        """
        entry = self._entries.get(name)
        if entry is not None and entry.place is not AdapterPlace.KEPT:
            self._entries.move_to_end(name)
            return SlotPlan((), load=False)
        if not self.can_take(name):
            raise Overloaded(
                f"all {self.max_active} adapter slots of the engine are in use",
                "try again; engine.max_adapters sets how many there are",
                retry_after_s=_BUSY_RETRY_S,
            )
        if len(self._in_slots()) >= self.max_active:
            oldest = next(one for one in self._in_slots() if not _is_busy(self._entries[one]))
            self._entries[oldest].place = AdapterPlace.KEPT
        kept_before = entry is not None
        if entry is None:
            self._entries[name] = entry = _Entry(AdapterPlace.LOADING)
        entry.place = AdapterPlace.LOADING
        self._entries.move_to_end(name)
        return SlotPlan(self._forget_oldest(), load=not kept_before)

    def loaded(self, name: str) -> None:
        """Requests may use ``name`` now."""
        if (entry := self._entries.get(name)) is not None:
            entry.place = AdapterPlace.ACTIVE

    def failed(self, name: str) -> None:
        """Forget ``name``, which could not be loaded, or was unloaded."""
        self._entries.pop(name, None)

    def enter(self, name: str) -> None:
        """A request begins to use ``name``. Hot."""
        if (entry := self._entries.get(name)) is not None:
            entry.in_flight += 1
            self._entries.move_to_end(name)

    def leave(self, name: str) -> None:
        """A request no longer uses ``name``. Hot."""
        entry = self._entries.get(name)
        if entry is not None and entry.in_flight > 0:
            entry.in_flight -= 1

    def in_flight(self, name: str) -> int:
        """Return how many requests use ``name``."""
        entry = self._entries.get(name)
        return 0 if entry is None else entry.in_flight

    def clear(self) -> None:
        """Forget all: the engine has started again, or its base was replaced."""
        self._entries.clear()

    def _in_slots(self) -> list[str]:
        return [
            name for name, entry in self._entries.items() if entry.place is not AdapterPlace.KEPT
        ]

    def _forget_oldest(self) -> tuple[str, ...]:
        excess = len(self._entries) - self.max_known
        kept = self.names(AdapterPlace.KEPT)
        gone = tuple(name for name in kept if not self._entries[name].in_flight)[: max(excess, 0)]
        for name in gone:
            del self._entries[name]
        return gone


def _is_busy(entry: _Entry) -> bool:
    return entry.in_flight > 0 or entry.place is AdapterPlace.LOADING
