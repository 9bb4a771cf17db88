"""What is in the engines of this host, by the names that requests use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from agent.core.engine_choice import EngineView
from protos.domain.manifest import manifest_sha256
from protos.domain.resources import (
    DesiredAdapter,
    DesiredReplica,
    Hold,
    ModelSource,
    Residency,
)

if TYPE_CHECKING:
    from agent.core.engine_status import EngineEndpoint, EngineStatus
    from agent.engine.slot import EngineSlot

Object = DesiredReplica | DesiredAdapter
#: An engine that is being given to another model is taken to be full so much later.
RESERVED_MS = 1_000.0


class Objects(Protocol):
    """Models and adapters on this host's disk."""

    def residency(self, held: Object) -> Residency: ...
    def path_of(self, held: Object) -> Path: ...
    async def ensure(self, held: Object) -> Path: ...
    def hold(self, held: Object) -> None: ...
    def release(self, held: Object) -> None: ...


class Progress(Protocol):
    """How far a pull is."""

    @property
    def error(self) -> str: ...


class ObjectsWithProgress(Objects, Protocol):
    """Models and adapters on this host's disk, and their pulls."""

    def progress(self) -> Mapping[str, Progress]: ...


class EngineInventory:
    """The engines by index and by model, and the names of adapters in them."""

    def __init__(self, objects: Objects, now_mono_ms: Callable[[], float]) -> None:
        self._objects = objects
        self._now_mono_ms = now_mono_ms
        self.slots: dict[int, EngineSlot] = {}
        self.desired: Mapping[str, DesiredReplica] = {}
        #: model -> since when it is to be hot.
        self.hot_since_ms: Mapping[str, float] = {}
        self.adapters: Mapping[str, DesiredAdapter] = {}
        #: adapter -> its name in engines, which no other content ever has.
        self.served: dict[str, str] = {}
        #: Engines that are being given to another model.
        self.reserved: set[int] = set()
        #: Engines that are being ended: nothing is put in their place before they are gone.
        self.ending: set[int] = set()
        #: Starts of processes by engines that are no longer there.
        self.past_starts = 0
        self._by_model: dict[str, EngineSlot] = {}
        self._holding: set[Object] = set()

    def set_desired(
        self, desired: Mapping[str, DesiredReplica], adapters: Mapping[str, DesiredAdapter]
    ) -> None:
        """Take what this node holds or may load; models of external servers are left out."""
        served = {}
        for name, one in adapters.items():
            known = self.adapters.get(name)
            same = known is not None and known.files == one.files
            served[name] = self.served[name] if same else _served_name(one)
        now_ms = self._now_mono_ms()
        self.desired = {
            name: one for name, one in desired.items() if one.source is ModelSource.MANAGED
        }
        self.hot_since_ms = {
            name: self.hot_since_ms.get(name, now_ms)
            for name, one in self.desired.items()
            if one.hold is Hold.HOT
        }
        self.adapters, self.served = adapters, served

    def object_named(self, name: str) -> Object | None:
        """Return the model or adapter ``name``, if this node holds or may load it."""
        return self.desired.get(name) or self.adapters.get(name)

    def endpoint_for(self, model: str, adapter: str = "") -> EngineEndpoint | None:
        """Return where it is served now. Hot."""
        slot = self._by_model.get(model)
        if slot is None or model not in self.desired:
            return None
        if not adapter:
            return slot.endpoint()
        one = self.adapters.get(adapter)
        if one is None or one.model != model:
            return None
        return slot.endpoint(self.served[adapter])

    def enter(self, endpoint: EngineEndpoint) -> None:
        """A request uses ``endpoint``. Hot."""
        for slot in self.slots.values():
            if slot.serves(endpoint):
                slot.enter(endpoint)

    def leave(self, endpoint: EngineEndpoint) -> None:
        """The request has ended. Hot."""
        for slot in self.slots.values():
            if slot.serves(endpoint):
                slot.leave(endpoint)

    def slot_of(self, model: str) -> EngineSlot | None:
        """Return the engine that has ``model``, or is started with it."""
        return self._by_model.get(model)

    def active_adapters(self) -> dict[str, EngineSlot]:
        """Return the adapters that requests may use now, with their engine."""
        found = {}
        for name, one in self.adapters.items():
            slot = self._by_model.get(one.model)
            if slot is not None and slot.endpoint(self.served[name]) is not None:
                found[name] = slot
        return found

    def free_slots(self) -> dict[str, int]:
        """Return for each model in an engine how many adapters that takes without eviction."""
        return {model: slot.free_slots for model, slot in self._by_model.items()}

    def views(self) -> list[EngineView]:
        """Return every engine as the choice of one sees it."""
        return [self._view(slot) for slot in self.slots.values()]

    def places(self) -> list[EngineView]:
        """Return every engine, and each place that is not free though no engine is there now."""
        now_ms = self._now_mono_ms()
        soon_ms = now_ms + RESERVED_MS
        return self.views() + [
            EngineView(index, "", b"", False, False, 0, soon_ms, now_ms)
            for index in sorted((self.reserved | self.ending) - self.slots.keys())
        ]

    def status(self) -> EngineStatus:
        """Return the state of the engine that serves, or else of the first; starts of all."""
        slots = [self.slots[index] for index in sorted(self.slots)]
        first = next((one for one in slots if one.is_open), slots[0])
        starts = sum(one.engine.status.generation for one in slots) + self.past_starts
        restarts = sum(one.engine.status.restarts for one in slots)
        return replace(first.status, generation=starts, restarts=restarts)

    def refresh(self) -> None:
        """Look up anew which engine has what, and keep on disk what engines read."""
        self._by_model = {slot.model: slot for slot in self.slots.values()}
        used: set[Object] = {slot.weights.desired for slot in self.slots.values()}
        for name, adapter in self.adapters.items():
            slot = self._by_model.get(adapter.model)
            if slot is not None and slot.slots.place_of(self.served[name]) is not None:
                used.add(adapter)
        for one in used - self._holding:
            self._objects.hold(one)
        for one in self._holding - used:
            self._objects.release(one)
        self._holding = used

    def _view(self, slot: EngineSlot) -> EngineView:
        one = self.desired.get(slot.model)
        hot = one is not None and one.hold is Hold.HOT
        view = slot.view(hot=hot, wanted=one is not None)
        if slot.index in self.reserved:
            # As good as filled in a second, with the model that is coming: never free before.
            soon_ms = self._now_mono_ms() + RESERVED_MS
            view = replace(view, settled=False, resident_since_ms=soon_ms)
        return view


def _served_name(adapter: DesiredAdapter) -> str:
    """Return the adapter's name in engines: vLLM's prefix cache tells adapters apart by it."""
    return f"{adapter.adapter}+{manifest_sha256(adapter.files).hex()[:16]}"
