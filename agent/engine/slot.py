"""One engine of this host: its process, the gate before it, and what it holds.

A request gets the endpoint while the gate is open, and counts between ``enter`` and ``leave``. What
was put into the engine is numbered by ``generation``: an endpoint of an earlier one is void.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.adapter_slots import AdapterPlace, AdapterSlots
from agent.core.engine_choice import EngineView
from agent.core.engine_status import EngineEndpoint, EngineState, EngineStatus
from agent.core.swap_machine import (
    CloseGate,
    Command,
    EngineDied,
    EngineReady,
    Event,
    OpenGate,
    RestartEngine,
    StepFailed,
    SwapEnded,
    SwapMachine,
    SwapRequested,
    SwapState,
)
from agent.core.turns import Turns
from agent.engine.adapter_loads import AdapterLoads
from agent.engine.argv import KEPT_PER_ADAPTER
from agent.engine.swap_steps import SwapSteps
from agent.tasks import Background
from protos.domain.errors import EdgeForgeError, EngineFailed, NoReplica, Overloaded

if TYPE_CHECKING:
    from agent.core.fingerprint import Take
    from agent.engine.slot_parts import Engine, SlotSettings, Weights

_log = logging.getLogger(__name__)


class EngineSlot:
    """An engine with its gate, on one event loop."""

    def __init__(
        self,
        index: int,
        weights: Weights,
        engine: Engine,
        settings: SlotSettings,
        *,
        generation: int = 0,
    ) -> None:
        self.index = index
        self.engine = engine
        self.weights = weights
        self.generation = generation
        most = settings.max_adapters if engine.control is not None else 0
        self.slots = AdapterSlots(most, most * KEPT_PER_ADAPTER)
        self.adapters = AdapterLoads(self.slots, settings.fingerprints.device)
        #: Adapters that wait for a slot.
        self.turns = Turns()
        #: The adapter that was loaded last and when by the loop's clock, until a request uses it.
        self.unused: tuple[str, float] = ("", 0.0)
        self._settings = settings
        self._machine = SwapMachine(weights.desired.model, generation)
        self._machine.state = SwapState.RESTARTING
        self._steps = SwapSteps(self)
        self._lock = asyncio.Lock()
        self._background = Background(max_tasks=16)
        self._waiters: set[asyncio.Future[None]] = set()
        self._swap_ended: asyncio.Future[str] | None = None
        self._target = weights
        self._endpoint: EngineEndpoint | None = None
        #: Where it listens; known once it was open.
        self._address: tuple[str | None, str | None, int | None] | None = None
        self._adapter_endpoints: dict[str, EngineEndpoint] = {}
        #: The process that was seen ready last; another one begins with nothing.
        self._ready_process = 0
        #: Counts processes, so that a step of an earlier one reports nothing.
        self._life = 0
        self.in_flight = 0
        self.resident_since_ms = self.last_used_ms = settings.now_mono_ms()
        #: Since when it is not open, while it is not.
        self.closed_since_ms = self.resident_since_ms
        #: What the weights in the engine said when its gate was opened.
        self.take: Take | None = None

    # -- what requests use -----------------------------------------------------------------------

    @property
    def model(self) -> str:
        """What the engine serves, or comes back with."""
        return self.weights.desired.model

    @property
    def is_open(self) -> bool:
        """Whether requests may use it now."""
        return self._endpoint is not None

    def endpoint(self, served_adapter: str = "") -> EngineEndpoint | None:
        """Return where its model, or an adapter in it, is served now. Hot."""
        endpoint = self._endpoint
        if endpoint is None or not served_adapter:
            return endpoint
        if not self.slots.is_active(served_adapter):
            return None
        known = self._adapter_endpoints.get(served_adapter)
        if known is None:
            known = replace(endpoint, model=served_adapter)
            self._adapter_endpoints[served_adapter] = known
        return known

    def serves(self, endpoint: EngineEndpoint) -> bool:
        """Return whether ``endpoint`` is of this engine, now or before. Hot."""
        mine = self._address
        return mine is not None and mine == (endpoint.uds_path, endpoint.host, endpoint.port)

    def enter(self, endpoint: EngineEndpoint) -> None:
        """A request uses ``endpoint``: its adapter is kept, and a swap waits for it. Hot."""
        if endpoint.generation != self.generation:
            return
        self.in_flight += 1
        self.last_used_ms = self._settings.now_mono_ms()
        self.slots.enter(endpoint.model)
        if endpoint.model == self.unused[0]:
            self.unused = ("", 0.0)

    def leave(self, endpoint: EngineEndpoint) -> None:
        """The request has ended. Hot."""
        if endpoint.generation != self.generation:
            return
        self.in_flight = max(0, self.in_flight - 1)
        self.last_used_ms = self._settings.now_mono_ms()
        self.slots.leave(endpoint.model)
        if not self.in_flight or (self.turns and not self.slots.in_flight(endpoint.model)):
            self._wake()

    @property
    def status(self) -> EngineStatus:
        """Its engine's state; one whose gate is closed is not ready yet."""
        status = self.engine.status
        if status.state is EngineState.READY and not self.is_open:
            status = replace(status, state=EngineState.WARMING, endpoint=None)
        return replace(status, generation=max(self.generation, status.generation))

    @property
    def free_slots(self) -> int:
        """How many adapters it takes without another one's leaving."""
        used = len(self.slots.known) - len(self.slots.names(AdapterPlace.KEPT))
        return self.slots.max_active - used

    def view(self, *, hot: bool, wanted: bool = True) -> EngineView:
        """Return what the choice of an engine is made from."""
        desired = self.weights.desired
        return EngineView(
            self.index,
            desired.model,
            desired.swap_key if self.engine.control is not None else b"",
            hot,
            settled=self.is_open,
            in_flight=self.in_flight,
            resident_since_ms=self.resident_since_ms if wanted else -math.inf,
            last_used_ms=self.last_used_ms,
            runtime=desired.runtime.name if desired.runtime is not None else "",
        )

    # -- the process -----------------------------------------------------------------------------

    def observe(self) -> None:
        """Take the engine's state; called after each of its changes."""
        status = self.engine.status
        if status.state is EngineState.READY:
            if status.generation != self._ready_process:
                self._ready_process = status.generation
                self._life += 1
                self._background.spawn(self._begin(self._life), name=f"open-{self.index}")
        elif self._ready_process:
            self._ready_process = 0
            self._life += 1
            self._feed(EngineDied(status.last_error or "its process ended"))
        self._wake()

    async def _begin(self, life: int) -> None:
        """Take the fingerprint of a process that has started, and open the gate."""
        await self._steps.take_at_start()
        if life == self._life:
            self._feed(EngineReady())

    async def wait_open(self, timeout_ms: float) -> None:
        """Return when the gate is open. Raises: EngineFailed; NoReplica after ``timeout_ms``."""
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                while not self.is_open:
                    status = self.engine.status
                    if status.state is EngineState.FAILED:
                        raise EngineFailed(
                            f"the engine of {self.model} does not start: {status.last_error}",
                            "see engine.log in the agent's state folder",
                        )
                    await self.wait_change()
        except TimeoutError as error:
            raise NoReplica(
                f"the engine of {self.model} is not ready within {timeout_ms / 1_000:.0f} s"
            ) from error

    async def wait_change(self) -> None:
        """Return after the next change of the engine, its gate, or its last request."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    async def stop(self) -> None:
        """End the engine and return when it is gone."""
        self._endpoint = None
        self._life += 1
        await self._background.close()
        if self._swap_ended is not None and not self._swap_ended.done():
            self._swap_ended.set_result("the engine was stopped")
        await self.engine.stop()
        self._wake()

    # -- adapters --------------------------------------------------------------------------------

    async def load_adapter(self, model: str, name: str, path: Path, *, check: bool) -> None:
        """Make the adapter in ``path`` usable as ``name``, beside its base ``model``.

        ``check``: compare its answers with the base's, since an engine was seen to answer as the
        base for an adapter that it had loaded.

        Raises: Overloaded while all slots are in use; NoReplica if the base has left; EngineFailed,
        not retryable if the adapter has no effect or cannot be loaded.
        """
        async with self._lock:
            control = self.engine.control
            if control is None or not self.is_open or self.model != model:
                raise NoReplica(f"{model} is not in an engine that takes adapters")
            generation = self.generation
            try:
                await self.adapters.load(control, self.weights_served, name, path, check=check)
            except Overloaded:
                raise  # it never had a slot
            except BaseException:
                if generation == self.generation:
                    self.slots.failed(name)
                raise
            if generation != self.generation or not self.is_open:
                raise EngineFailed(f"the engine ended while it loaded {name}", "try again")
            self.slots.loaded(name)
            self.unused = (name, asyncio.get_running_loop().time())
            self._wake()

    @property
    def weights_served(self) -> str:
        """The engine's own name of its model, which a swap does not change."""
        ready = self.engine.ready_endpoint
        return ready.model if ready is not None else self.model

    # -- swaps -----------------------------------------------------------------------------------

    async def swap(self, target: Weights) -> None:
        """Put ``target`` in place of the engine's model; requests of that one end first.

        Raises: EngineFailed (retryable) if the engine serves its old model on, or again.
        """
        async with self._lock:
            if self.model == target.desired.model:
                return
            if not self.is_open:
                raise NoReplica(f"the engine of {self.model} is not ready for a swap")
            self._target = target
            self._swap_ended = asyncio.get_running_loop().create_future()
            self._feed(SwapRequested(target.desired.model))
            error = await self._swap_ended
        if error:
            raise EngineFailed(
                f"{target.desired.model} was not swapped in: {error}",
                f"{self.model} is served as before; try again",
            )

    def _feed(self, event: Event) -> None:
        before = self._machine.state
        for command in self._machine.handle(event):
            self._perform(command)
        if self._machine.state is not before:
            _log.info(
                "engine gate engine=%d state=%s was=%s event=%s",
                self.index,
                self._machine.state,
                before,
                type(event).__name__,
            )

    def _perform(self, command: Command) -> None:
        match command:
            case CloseGate():
                self._endpoint = None
                self.closed_since_ms = self._settings.now_mono_ms()
                self._settings.on_change()
            case OpenGate(model, generation):
                self._open(model, generation)
            case RestartEngine():
                self.engine.restart()
            case SwapEnded(error):
                if self._swap_ended is not None and not self._swap_ended.done():
                    self._swap_ended.set_result(error)
            case _:
                self._background.spawn(self._step(command, self._life), name=f"swap-{self.index}")

    async def _step(self, command: Command, life: int) -> None:
        try:
            event = await self._steps.perform(command)
        except EdgeForgeError as error:
            event = StepFailed(str(error))
        except Exception as error:
            _log.exception("a step of a swap failed in an unforeseen way")
            event = StepFailed(repr(error))
        if life == self._life:
            self._feed(event)

    def _open(self, model: str, generation: int) -> None:
        if generation != self.generation:
            self.generation = generation
            self.adapters.clear()
            self.in_flight = 0
            self.resident_since_ms = self._settings.now_mono_ms()
        if model == self._target.desired.model:
            self.weights = self._target
        self._target = self.weights
        self.engine.use_model_dir(self.weights.path)
        self._adapter_endpoints.clear()
        ready = self.engine.ready_endpoint
        if ready is None:
            return  # it has just died, which is observed next; these weights are its next ones
        self._endpoint = replace(ready, generation=generation)
        self._address = (ready.uds_path, ready.host, ready.port)
        self._wake()
        self._settings.on_change()

    # -- for the steps of a swap -----------------------------------------------------------------

    def weights_of(self, model: str) -> Weights:
        """Return the weights that ``model`` means during a swap."""
        return self._target if model == self._target.desired.model else self.weights

    @property
    def settings(self) -> SlotSettings:
        """What all engines of this host share."""
        return self._settings

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
