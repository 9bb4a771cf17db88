"""The engines of this host: which model is in which, and how what is in none comes into one."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent.core.adapter_slots import AdapterPlace
from agent.core.cold_start import ColdPath, ColdStart, ColdWay, Wanted
from agent.core.cold_start_times import ColdStartTimes
from agent.core.engine_choice import Choice, ChoicePolicy, choose
from agent.core.reconcile import as_hot_sees
from agent.engine.inventory import EngineInventory, Object, Objects
from agent.engine.load_failures import LoadFailures
from agent.engine.slot import EngineSlot
from agent.engine.slot_parts import Engine, SlotSettings, Weights
from agent.engine.slot_room import predicted_wait_ms, wait_for_room
from protos.domain.errors import EdgeForgeError, NoReplica, NotFound, Overloaded
from protos.domain.manifest import manifest_sha256
from protos.domain.resources import (
    DesiredAdapter,
    DesiredReplica,
    Residency,
)

#: Loads at once; what exceeds them is refused.
MAX_LOADS = 64
#: Pairs of adapter and base that were seen to differ.
MAX_PROVEN = 4_096
_FARNESS = list(Residency)
#: An engine may become free before it was to; looked at as often as this.
_LOOK_MS = 100.0

_log = logging.getLogger(__name__)

#: Makes the engine of a model in the given directory, in the place of that index.
EngineMaker = Callable[[DesiredReplica, Path, int], Engine]


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """How many engines there may be, and when they change their model."""

    max_engines: int = 1
    start_timeout_ms: float = 600_000.0
    choice: ChoicePolicy = field(default_factory=ChoicePolicy)


class HostEngines:
    """All engines of one host, on one event loop."""

    def __init__(
        self,
        objects: Objects,
        make_engine: EngineMaker,
        settings: SlotSettings,
        policy: HostPolicy,
    ) -> None:
        self._objects = objects
        self._make_engine = make_engine
        self._on_change = settings.on_change
        self._settings = replace(settings, on_change=self._changed)
        self._now_mono_ms = settings.now_mono_ms
        self.policy = policy
        self.times = ColdStartTimes()
        self.inventory = EngineInventory(objects, settings.now_mono_ms)
        self.failures = LoadFailures(self.inventory, settings)
        #: Counts changes of what is in the engines, or may be.
        self.changes = 0
        self._loads: dict[Wanted, asyncio.Task[ColdStart]] = {}
        #: Loads in progress that are possible, and since when.
        self._begun: dict[Wanted, tuple[ColdWay, float]] = {}
        #: model -> the engine that it waits for; the first to come first.
        self._waiting: dict[str, int] = {}
        self._proven: set[tuple[str, bytes]] = set()
        self._last_generation = 0

    def set_desired(
        self, desired: Mapping[str, DesiredReplica], adapters: Mapping[str, DesiredAdapter]
    ) -> None:
        """Take what this node holds or may load."""
        before = {name: self.inventory.object_named(name) for name in self.failures.refused}
        self.inventory.set_desired(desired, adapters)
        for name, one in before.items():
            if self.inventory.object_named(name) != one:
                del self.failures.refused[name]
        self.failures.rests.forget_all_but({*desired, *adapters})
        self._changed()

    # -- what requests ask -----------------------------------------------------------------------

    def cold_path(self, model: str, adapter: str = "") -> ColdWay | None:
        """Return how it would come into an engine; None: not at all, or it is there. Hot.

        What waits or is being loaded is said with what is left of that.
        """
        wanted = Wanted(model, adapter)
        for one in (wanted, Wanted(model)):
            begun = self._begun.get(one)
            if begun is not None:
                if self.inventory.endpoint_for(model, adapter) is not None:
                    return None
                way, began_ms = begun
                return way._replace(delay_ms=way.delay_ms - (self._now_mono_ms() - began_ms))
        if self.failures.rest(wanted) is not None:
            return None
        return self._cold_path(wanted, hot=False)

    async def make_resident(self, model: str, adapter: str = "", *, hot: bool = False) -> ColdStart:
        """Return when it is in an engine; one load for all who ask for it meanwhile.

        ``hot``: this node is to hold it; then no other hot model gives its engine up.

        Raises: NotFound for what this node may not load; Overloaded, NoReplica, EngineFailed.
        """
        wanted = Wanted(model, adapter)
        load = self._loads.get(wanted)
        if load is None:
            if len(self._loads) >= MAX_LOADS:
                raise Overloaded(f"{MAX_LOADS} models are being loaded on this node", "try again")
            load = asyncio.get_running_loop().create_task(
                self._load(wanted, hot=hot), name=f"load-{wanted.name}"
            )
            self._loads[wanted] = load
            load.add_done_callback(lambda done: self._ended(wanted, done))
        # A request that is cancelled leaves the load to the others.
        return await asyncio.shield(load)

    def loading(self) -> frozenset[str]:
        """Return the names of models and adapters that are being put into an engine."""
        return frozenset(wanted.name for wanted in self._loads)

    def observe(self) -> None:
        """Take the state of every engine; called after each change of one."""
        for slot in list(self.inventory.slots.values()):
            slot.observe()
        self._changed()

    async def stop(self, index: int) -> None:
        """End an engine."""
        slot = self.inventory.slots.pop(index, None)
        if slot is None:
            return
        self._last_generation = max(self._last_generation, slot.generation)
        self.inventory.ending.add(index)
        self._changed()
        try:
            await slot.stop()
        finally:
            self.inventory.ending.discard(index)
        self.inventory.past_starts += slot.engine.status.generation

    async def retire(self, index: int) -> None:
        """End an engine whose requests have ended, unless its model is wanted again."""
        slot = self.inventory.slots.get(index)
        if slot is not None and slot.model not in self.inventory.desired:
            await self.stop(index)

    async def close(self) -> None:
        """End all loads and all engines."""
        loads = list(self._loads.values())
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)
        await asyncio.gather(*(self.stop(index) for index in list(self.inventory.slots)))

    # -- loading ---------------------------------------------------------------------------------

    def _cold_path(self, wanted: Wanted, *, hot: bool) -> ColdWay | None:
        desired = self.inventory.desired.get(wanted.model)
        if desired is None or self.failures.is_refused(wanted):
            return None
        adapter: DesiredAdapter | None = None
        if wanted.adapter:
            adapter = self.inventory.adapters.get(wanted.adapter)
            if adapter is None or adapter.model != wanted.model or not self._settings.max_adapters:
                return None
        slot = self.inventory.slot_of(wanted.model)
        if slot is not None and slot.is_open:
            return self._adapter_path(slot, adapter) if adapter is not None else None
        residency = self._objects.residency(desired)
        if adapter is not None:
            residency = max(residency, self._objects.residency(adapter), key=_FARNESS.index)
        if slot is not None and slot.index not in self.inventory.reserved:
            return ColdWay(ColdPath.ENGINE, residency, slot.closed_since_ms - self._now_mono_ms())
        choice = self._choose(desired, hot=hot)
        if choice is None:
            return None
        before_ms = self._ahead(desired.model, choice.index) * self.policy.choice.min_residence_ms
        return ColdWay(choice.path, residency, choice.wait_ms + before_ms)

    def _ahead(self, model: str, index: int) -> int:
        """Return how many models wait for engine ``index`` before ``model``."""
        names = [name for name, at in self._waiting.items() if at == index]
        return names.index(model) if model in names else len(names)

    def _adapter_path(self, slot: EngineSlot, adapter: DesiredAdapter) -> ColdWay | None:
        served = self.inventory.served[adapter.adapter]
        wait_ms = predicted_wait_ms(slot, served)
        if slot.slots.is_active(served) or wait_ms > self.policy.choice.max_wait_ms:
            return None
        if slot.slots.place_of(served) is AdapterPlace.KEPT:
            return ColdWay(ColdPath.ADAPTER, Residency.HOST_MEMORY, wait_ms)
        return ColdWay(ColdPath.ADAPTER, self._objects.residency(adapter), wait_ms)

    def _choose(self, desired: DesiredReplica, *, hot: bool) -> Choice | None:
        views, now_ms = self.inventory.places(), self._now_mono_ms()
        if hot:
            of, since_ms = self.inventory.desired, self.inventory.hot_since_ms
            since = since_ms.get(desired.model, -math.inf)
            views = [as_hot_sees(view, of, since) for view in views]
        return choose(
            views,
            swap_key=desired.swap_key,
            runtime=desired.runtime.name if desired.runtime is not None else "",
            max_engines=self.policy.max_engines,
            policy=self.policy.choice,
            now_mono_ms=now_ms,
        )

    async def _load(self, wanted: Wanted, *, hot: bool) -> ColdStart:
        began_ms = self._now_mono_ms()
        desired = self.inventory.desired.get(wanted.model)
        adapter = self.inventory.adapters.get(wanted.adapter) if wanted.adapter else None
        if desired is None or (wanted.adapter and adapter is None):
            raise NotFound(f"this node may not load {wanted.name}", "deploy it here")
        # what is to be resident has rests of its own, in ``Replicas``
        way = None if self.failures.rest(wanted) and not hot else self._cold_path(wanted, hot=hot)
        if way is None:
            if self.inventory.endpoint_for(*wanted) is not None:
                return ColdStart(ColdPath.ADAPTER, Residency.DEVICE, 0, 0.0)
            raise self.failures.why_not(wanted)
        path, residency, _ = way
        self._begun[wanted] = way, began_ms
        waited_ms = 0.0
        needed: list[Object] = []
        if path is not ColdPath.ADAPTER:
            needed.append(desired)
        if adapter is not None:
            needed.append(adapter)
        for one in needed:
            self._objects.hold(one)
        try:
            await asyncio.gather(*(self._objects.ensure(one) for one in needed))
            pulled_ms = self._now_mono_ms()
            if adapter is None:
                waited_ms = await self._place(desired, hot=hot)
            else:
                if path is not ColdPath.ADAPTER:
                    base_ms = self._now_mono_ms()
                    base = await self.make_resident(wanted.model, hot=hot)
                    waited_ms = max(0.0, self._now_mono_ms() - base_ms - base.took_ms)
                waited_ms += await self._load_adapter(desired, adapter, hot=hot)
        except EdgeForgeError as error:
            self.failures.note(wanted, error)
            raise
        finally:
            for one in needed:
                self._objects.release(one)
        on_disk = _FARNESS.index(residency) <= _FARNESS.index(Residency.DISK)
        start = ColdStart(
            path,
            residency,
            sum(file.size_bytes for one in needed for file in one.files),
            # How long others kept their place says nothing of the next load.
            self._now_mono_ms() - began_ms - waited_ms,
            0.0 if on_disk else pulled_ms - began_ms,
        )
        self.failures.rests.went_well(wanted)
        self.times.add(start)
        _log.info("cold start name=%s path=%s took_ms=%.0f", wanted.name, path, start.took_ms)
        return start

    async def _place(self, desired: DesiredReplica, *, hot: bool) -> float:
        """Put a model whose files are complete into an engine, and wait until it serves.

        Returned is how long it waited for an engine that was to keep another model.
        """
        began_ms = self._now_mono_ms()
        try:
            choice = await self._engine_for(desired, hot=hot)
        finally:
            self._waiting.pop(desired.model, None)
        waited_ms = self._now_mono_ms() - began_ms
        slot = self.inventory.slot_of(desired.model)
        if choice is None:
            assert slot is not None
            await slot.wait_open(self.policy.start_timeout_ms)
        else:
            weights = Weights(desired, self._objects.path_of(desired))
            self.inventory.reserved.add(choice.index)
            try:
                if choice.path is ColdPath.SWAP:
                    slot = self.inventory.slots[choice.index]
                    await slot.swap(weights)
                else:
                    slot = await self._start(weights, choice.index)
                self._changed()
                await slot.wait_open(self.policy.start_timeout_ms)
            finally:
                self.inventory.reserved.discard(choice.index)
            self._changed()
        if slot.model != desired.model:
            raise NoReplica(f"{desired.model} has just left its engine", "try again")
        return waited_ms

    async def _engine_for(self, desired: DesiredReplica, *, hot: bool) -> Choice | None:
        """Return which engine the model is put into now, None: one has it already.

        Waits for an engine that is to keep its model for a while yet; models that wait for the same
        one take it in the order in which they came. A hot model is tried again by the reconciler.

        Raises: NoReplica if no engine will be free in time.
        """
        began_ms, policy = self._now_mono_ms(), self.policy.choice
        while True:
            slot = self.inventory.slot_of(desired.model)
            if slot is not None and slot.index not in self.inventory.reserved:
                return None
            choice = self._choose(desired, hot=hot)
            if choice is None:
                raise self.failures.why_not(Wanted(desired.model))
            if not (choice.wait_ms or self._ahead(desired.model, choice.index)):
                return choice
            if hot or self._now_mono_ms() - began_ms >= policy.max_wait_ms:
                raise self.failures.why_not(Wanted(desired.model))
            self._waiting[desired.model] = choice.index
            await asyncio.sleep(min(max(choice.wait_ms, _LOOK_MS / 10), _LOOK_MS) / 1_000)

    async def _start(self, weights: Weights, index: int) -> EngineSlot:
        await self.stop(index)
        engine = self._make_engine(weights.desired, weights.path, index)
        self._last_generation += 1
        slot = EngineSlot(
            index, weights, engine, self._settings, generation=self._last_generation - 1
        )
        self.inventory.slots[index] = slot
        try:
            await engine.start()
        except BaseException:
            if self.inventory.slots.get(index) is slot:
                del self.inventory.slots[index]
            raise
        return slot

    async def _load_adapter(
        self, base: DesiredReplica, adapter: DesiredAdapter, *, hot: bool
    ) -> float:
        """Load the adapter beside its base, and return how long it waited for a slot."""
        slot = self.inventory.slot_of(base.model)
        if slot is None:
            raise NoReplica(f"{base.model} has left its engine", "try again")
        served = self.inventory.served[adapter.adapter]
        proof = (served, manifest_sha256(base.files))
        path = self._objects.path_of(adapter)
        waited_ms = 0.0
        if not hot:
            waited_ms = await wait_for_room(
                slot,
                served,
                adapter.adapter.partition("/")[0],
                max_wait_ms=self.policy.choice.max_wait_ms,
                now_mono_ms=self._now_mono_ms,
            )
        await slot.load_adapter(base.model, served, path, check=proof not in self._proven)
        if len(self._proven) < MAX_PROVEN:
            self._proven.add(proof)
        return waited_ms

    def _ended(self, wanted: Wanted, load: asyncio.Task[ColdStart]) -> None:
        self._loads.pop(wanted, None)
        self._begun.pop(wanted, None)
        if not load.cancelled():
            load.exception()  # seen here, even if every request has left
        self._changed()

    def _changed(self) -> None:
        self.changes += 1
        self.inventory.refresh()
        self._on_change()
