"""The steps of a swap on a real engine, and the fingerprint of one that has started."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from agent.core.fingerprint import TOLERANCE, Fingerprint, difference
from agent.core.swap_machine import (
    AdaptersOut,
    CheckWeights,
    Command,
    Drain,
    Drained,
    DrainTimedOut,
    Event,
    PrefixReset,
    ReloadWeights,
    ResetPrefix,
    StepFailed,
    TakeAdaptersOut,
    WeightsChecked,
    WeightsReloaded,
)
from protos.domain.errors import EngineFailed

if TYPE_CHECKING:
    from agent.core.adapter_slots import AdapterSlots
    from agent.core.fingerprint import Take
    from agent.engine.adapter_loads import AdapterLoads
    from agent.engine.control import Control
    from agent.engine.slot_parts import Engine, SlotSettings, Weights

#: Between looks whether the engine has freed the blocks of its last request.
_LOOK_S = 0.02

_log = logging.getLogger(__name__)


class Swapped(Protocol):
    """The engine whose weights are swapped, with what it holds."""

    engine: Engine
    slots: AdapterSlots
    adapters: AdapterLoads
    weights: Weights
    take: Take | None
    in_flight: int

    @property
    def settings(self) -> SlotSettings: ...
    @property
    def weights_served(self) -> str: ...
    def weights_of(self, model: str) -> Weights: ...
    async def wait_change(self) -> None: ...


class SwapSteps:
    """Performs what a slot's machine asks for."""

    def __init__(self, slot: Swapped) -> None:
        self._slot = slot

    async def perform(self, command: Command) -> Event:
        """Do ``command`` and return what came of it. Raises: EngineFailed."""
        match command:
            case Drain():
                return await self._drain()
            case TakeAdaptersOut():
                for name in self._slot.adapters.known:
                    await self._control.unload_adapter(name)
                    self._slot.slots.failed(name)
                return AdaptersOut()
            case ReloadWeights(model):
                await self._control.reload_weights(self._slot.weights_of(model).path)
                return WeightsReloaded()
            case ResetPrefix():
                done = await self._control.reset_prefix_cache()
                if not done:
                    await asyncio.sleep(_LOOK_S)
                return PrefixReset(done)
            case CheckWeights(model):
                return WeightsChecked(await self._check(self._slot.weights_of(model)))
        return StepFailed(f"no such step: {command}")

    @property
    def _control(self) -> Control:
        control = self._slot.engine.control
        if control is None:
            raise EngineFailed("this engine was not started to take weights", retryable=False)
        return control

    async def _drain(self) -> Event:
        """Wait for the requests that this agent counts, then for those that the engine counts."""
        try:
            async with asyncio.timeout(self._slot.settings.drain_timeout_ms / 1_000):
                while self._slot.in_flight:
                    await self._slot.wait_change()
                # Counted by the engine too, which has others to answer: this agent's probes.
                while not await self._control.reset_prefix_cache():  # noqa: ASYNC110 - no event
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            return DrainTimedOut()
        return Drained()

    async def take_at_start(self) -> None:
        """Keep what the weights say that a process was started with: the truth about them."""
        slot = self._slot
        slot.take = None
        if slot.engine.control is None:
            return
        weights, store = slot.weights, slot.settings.fingerprints
        try:
            take = await self._control.take(slot.weights_served)
        except EngineFailed as error:
            _log.warning("no fingerprint model=%s reason=%s", weights.desired.model, error)
            return
        slot.take = take
        known = store.load(weights.digest, weights.args)
        if known is not None:
            different = difference(known.take, take, TOLERANCE[store.device])
            if different:
                _log.error(
                    "an engine says something else than before with the same weights model=%s "
                    "how=%s known_from_start=%s",
                    weights.desired.model,
                    different,
                    known.at_start,
                )
            elif known.at_start:
                return
        store.save(weights.digest, Fingerprint(take, at_start=True), weights.args)

    async def _check(self, weights: Weights) -> str:
        """Return how the engine differs from ``weights``, empty if it does not.

        Weights that no engine was started with on this host yet have no fingerprint: then at least
        they must be others than before, and what they say is kept until a start confirms it.
        """
        slot, store = self._slot, self._slot.settings.fingerprints
        take = await self._control.take(slot.weights_served)
        known = store.load(weights.digest, weights.args)
        tolerance = TOLERANCE[store.device]
        different = ""
        if known is not None:
            different = difference(known.take, take, tolerance)
        elif (
            slot.take is not None
            and weights.tensors_digest != slot.weights.tensors_digest
            and not difference(slot.take, take, tolerance)
        ):
            different = "it answers as the model before it"
        if not different:
            slot.take = take
            if known is None:
                store.save(weights.digest, Fingerprint(take, at_start=False), weights.args)
        return different
