"""Brings this node to its desired state, and loads what requests ask for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

from agent.core.backoff import BackoffPolicy, full_jitter_ms
from agent.core.cold_start_times import ColdStartTimes
from agent.core.engine_status import EngineEndpoint, EngineState, EngineStatus
from agent.core.peer_load import MAX_NAMES
from agent.core.reconcile import (
    Held,
    HeldReplica,
    MakeResident,
    Pull,
    Step,
    StopEngine,
    loadable_names,
    name_of,
    next_steps,
)
from agent.core.replica_report import REPLICA_STATE, Facts, InEngine, report_one
from agent.core.samples import Sample, Samples
from agent.tasks import Background
from protos.domain.errors import EdgeForgeError, NoReplica
from protos.domain.resources import DesiredAdapter, DesiredReplica, Residency

if TYPE_CHECKING:
    from agent.core.cold_start import ColdStart, ColdWay
    from agent.engine.host import HostEngines
    from agent.engine.inventory import Object, ObjectsWithProgress

_log = logging.getLogger(__name__)

_PULL_BACKOFF = BackoffPolicy(base_ms=500.0, cap_ms=30_000.0)
#: After a model that is to be resident could not be loaded.
_REST_BACKOFF = BackoffPolicy(base_ms=1_000.0, cap_ms=30_000.0)
#: What is loadable is looked up again after so long, or after a change.
_LOADABLE_MS = 250.0
#: Engines become free as time passes, without any event.
_RECHECK_S = 5.0
_ABSENT = EngineStatus(EngineState.ABSENT, None, 0, 0, 0.0, None, None)


class ExternalServer(Protocol):
    """An engine that somebody else runs."""

    @property
    def status(self) -> EngineStatus: ...
    @property
    def ready_endpoint(self) -> EngineEndpoint | None: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


class Replicas:
    """Reconciles this node with its desired replicas, on one event loop.

    ``engines`` is None on a node whose engine is external or absent.
    """

    def __init__(
        self,
        objects: ObjectsWithProgress,
        *,
        engines: HostEngines | None,
        external: ExternalServer | None,
        on_change: Callable[[], None],
        now_mono_ms: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self._objects = objects
        self._engines = engines
        self._external = external
        self._on_change = on_change
        self._now_mono_ms = now_mono_ms
        self._draw = draw
        self._desired: Mapping[str, DesiredReplica] = {}
        self._adapters: Mapping[str, DesiredAdapter] = {}
        self._pulling: set[str] = set()
        self._pulls_ended = 0
        #: What is loadable, after which changes it was found, and until when it holds.
        self._loadable: Mapping[str, ColdWay] = {}
        self._loadable_after, self._loadable_until_ms = (-1, -1), 0.0
        #: Engines that end after their requests.
        self._retiring: set[int] = set()
        self._errors: dict[str, str] = {}
        #: What cold starts took; of an external server there are none.
        self.cold_starts = ColdStartTimes() if engines is None else engines.times
        #: name -> (failures in a row, when it is tried again)
        self._resting: dict[str, tuple[int, float]] = {}
        self._wake = asyncio.Event()
        self._background = Background(max_tasks=1_024)

    def set_desired(
        self,
        desired: Mapping[str, DesiredReplica],
        adapters: Mapping[str, DesiredAdapter] | None = None,
    ) -> None:
        """Take a new table of desired models and adapters."""
        self._desired, self._adapters = desired, adapters or {}
        known = {*self._desired, *self._adapters}
        self._errors = {name: why for name, why in self._errors.items() if name in known}
        self._resting.clear()
        if self._engines is not None:
            self._engines.set_desired(self._desired, self._adapters)
        self._wake.set()

    def changed(self) -> None:
        """Reconcile and report again: an engine's state has changed."""
        if self._engines is not None:
            self._engines.observe()
        self._wake.set()
        self._on_change()

    # -- what requests ask -----------------------------------------------------------------------

    def endpoint_for(self, model: str, adapter: str = "") -> EngineEndpoint | None:
        """Return where it is served on this node now, or None. Hot."""
        if model not in self._desired:
            return None
        if self._external is not None:
            return None if adapter else self._external.ready_endpoint
        return (
            None if self._engines is None else self._engines.inventory.endpoint_for(model, adapter)
        )

    def cold_path(self, model: str, adapter: str = "") -> ColdWay | None:
        """Return how it would become resident, with the wait before that or what is over of it.

        None: not here, or it is already. Hot.
        """
        return None if self._engines is None else self._engines.cold_path(model, adapter)

    async def make_resident(self, model: str, adapter: str = "") -> ColdStart:
        """Return when it is in an engine: one load for all who ask meanwhile.

        Raises: EdgeForgeError, saying whether to try again.
        """
        if self._engines is None:
            raise NoReplica("this node runs no engine of its own", retryable=False)
        return await self._engines.make_resident(model, adapter)

    def enter(self, endpoint: EngineEndpoint) -> None:
        """A request uses ``endpoint``: call it in the same step as ``endpoint_for``. Hot."""
        if self._engines is not None:
            self._engines.inventory.enter(endpoint)

    def leave(self, endpoint: EngineEndpoint) -> None:
        """The request has ended. Hot."""
        if self._engines is not None:
            self._engines.inventory.leave(endpoint)

    def resident(self) -> list[str]:
        """Return the models and adapters that are served on this node now."""
        engines, models = self._engines, self.ready_models()
        return models if engines is None else [*models, *engines.inventory.active_adapters()]

    def loadable(self) -> Mapping[str, ColdWay] | None:
        """Return what this node could load now, and how; None: more than a probe's answer has."""
        if self._engines is None:
            return {}
        if len(self._desired) + len(self._adapters) > MAX_NAMES:
            return None
        # every node asks, and a thousand names take milliseconds of the event loop
        now_ms, changes = self._now_mono_ms(), (self._engines.changes, self._pulls_ended)
        if changes == self._loadable_after and now_ms < self._loadable_until_ms:
            return self._loadable
        found: dict[str, ColdWay] = {}
        for model, adapter in loadable_names(self._desired, self._adapters):
            path = self.cold_path(model, adapter)
            if path is not None:
                found[adapter or model] = path
        self._loadable, self._loadable_after = found, changes
        self._loadable_until_ms = now_ms + _LOADABLE_MS
        return found

    def ready_models(self) -> list[str]:
        """Return the models that are served on this node now."""
        return [model for model in self._desired if self.endpoint_for(model) is not None]

    # -- reports ---------------------------------------------------------------------------------

    @property
    def engine_status(self) -> EngineStatus:
        """The engine's status, whichever kind it is; of several the one that serves."""
        if self._external is not None:
            return self._external.status
        if self._engines is None or not self._engines.inventory.slots:
            return _ABSENT
        return self._engines.inventory.status()

    @property
    def engine_kind(self) -> str:
        """``engine.kind`` of the configuration: external, vllm or none."""
        if self._external is not None:
            return "external"
        return "none" if self._engines is None else "vllm"

    def report(self) -> list[HeldReplica]:
        """Return the state of each desired model and adapter."""
        if self._external is not None:
            status = self._external.status
            state, error = REPLICA_STATE[status.state], status.last_error or ""
            return [HeldReplica(model, state, status.generation, error) for model in self._desired]
        facts = self._facts()
        return [report_one(one, facts) for one in self._objects_here()]

    def samples(self, now_mono_ms: float) -> Samples:
        """Yield whether the engine is ready, its restarts, and what cold starts took."""
        engine = self.engine_status
        yield Sample(
            "edgeforge_engine_ready",
            "1 while the engine serves.",
            float(engine.state is EngineState.READY),
        )
        yield Sample(
            "edgeforge_engine_restarts",
            "Starts after a failure.",
            float(engine.restarts),
            counter=True,
        )
        yield from self.cold_starts.samples(now_mono_ms)

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return the engine, and the desired models and adapters."""
        engine = self.engine_status
        return {
            "engine": {
                "kind": self.engine_kind,
                "state": engine.state.value,
                "pid": engine.pid,
                "restarts": engine.restarts,
                "generation": engine.generation,
                "last_error": engine.last_error,
            },
            "replicas": [asdict(held) for held in self.report()],
            "cold_starts": [asdict(one) for one in self.cold_starts.summaries()],
        }

    def _objects_here(self) -> list[Object]:
        return [*self._desired.values(), *self._adapters.values()]

    def _facts(self) -> Facts:
        engines = self._engines
        in_engine: dict[str, InEngine] = {}
        if engines is not None:
            for model in self._desired:
                slot = engines.inventory.slot_of(model)
                if slot is not None:
                    status = slot.status
                    in_engine[model] = InEngine(
                        status.state, status.generation, status.last_error or ""
                    )
            for name, slot in engines.inventory.active_adapters().items():
                in_engine[name] = InEngine(EngineState.READY, slot.generation, "")
        progress = self._objects.progress()
        refused = {} if engines is None else engines.failures.refused
        pull_errors = {name: one.error for name, one in progress.items() if one.error}
        return Facts(
            in_engine=in_engine,
            residency=self._objects.residency,
            errors={**pull_errors, **self._errors, **refused},
            refused=frozenset(refused),
            loading=frozenset() if engines is None else engines.loading(),
        )

    # -- reconciliation --------------------------------------------------------------------------

    async def run(self) -> None:
        """Reconcile until cancelled, then stop the engines."""
        try:
            if self._external is not None:
                await self._external.start()
            while True:
                self._wake.clear()
                await self._reconcile()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_RECHECK_S):
                        await self._wake.wait()
        finally:
            await self._background.close()
            if self._engines is not None:
                await self._engines.close()
            if self._external is not None:
                await self._external.stop()

    async def _reconcile(self) -> None:
        engines = self._engines
        if engines is None:
            return
        now_ms = self._now_mono_ms()
        objects = self._objects_here()
        held = Held(
            whole=frozenset(
                name_of(one) for one in objects if self._objects.residency(one) is Residency.DISK
            ),
            pulling=frozenset(self._pulling),
            engines=tuple(engines.inventory.views()),
            active=frozenset(engines.inventory.active_adapters()),
            loading=engines.loading(),
            resting=frozenset(
                {name for name, (_, until_ms) in self._resting.items() if until_ms > now_ms}
                | engines.failures.refused.keys()
            ),
            free_slots=engines.inventory.free_slots(),
            hot_since_ms=engines.inventory.hot_since_ms,
        )
        policy = engines.policy
        for step in next_steps(
            self._desired,
            self._adapters,
            held,
            max_engines=policy.max_engines,
            policy=policy.choice,
            now_mono_ms=now_ms,
        ):
            await self._perform(engines, step)

    async def _perform(self, engines: HostEngines, step: Step) -> None:
        match step:
            case Pull(desired):
                name = name_of(desired)
                self._pulling.add(name)
                self._background.spawn(self._pull(desired), name=f"pull-{name}")
            case MakeResident(model, adapter):
                self._background.spawn(
                    self._make_hot(engines, model, adapter), name=f"hot-{adapter or model}"
                )
                await asyncio.sleep(0)  # so that the next look sees it in ``loading``
            case StopEngine(index):
                if index not in self._retiring:
                    _log.info("engine stopping, its model is wanted no longer engine=%d", index)
                    self._retiring.add(index)
                    self._background.spawn(self._retire(engines, index), name=f"retire-{index}")
        self._on_change()

    async def _retire(self, engines: HostEngines, index: int) -> None:
        try:
            await engines.retire(index)
        finally:
            self._retiring.discard(index)
            self._wake.set()
            self._on_change()

    async def _make_hot(self, engines: HostEngines, model: str, adapter: str) -> None:
        name = adapter or model
        try:
            await engines.make_resident(model, adapter, hot=True)
        except EdgeForgeError as error:
            _log.error("cannot be loaded name=%s reason=%s", name, error)
            failures = self._resting.get(name, (0, 0.0))[0] + 1
            pause_ms = max(full_jitter_ms(_REST_BACKOFF, failures, self._draw()), 250.0)
            self._resting[name] = (failures, self._now_mono_ms() + pause_ms)
            self._errors[name] = str(error)
        else:
            self._resting.pop(name, None)
            self._errors.pop(name, None)
        self._wake.set()
        self._on_change()

    async def _pull(self, desired: Object) -> None:
        """Pull, with retries, until it is complete or no longer desired."""
        name = name_of(desired)
        failures = 0
        try:
            while desired in (self._desired.get(name), self._adapters.get(name)):
                try:
                    path = await self._objects.ensure(desired)
                except* EdgeForgeError as group:
                    failures += 1
                    error = group.exceptions[0]
                    self._errors[name] = str(error)
                    _log.warning("pull failed name=%s reason=%s", name, error)
                    self._on_change()
                    pause_ms = full_jitter_ms(_PULL_BACKOFF, failures, self._draw())
                    await asyncio.sleep(max(pause_ms, 50.0) / 1_000)
                else:
                    _log.info("pulled name=%s path=%s", name, path.name)
                    self._errors.pop(name, None)
                    break
        finally:
            self._pulling.discard(name)
            self._pulls_ended += 1
            self._wake.set()
            self._on_change()
