"""Brings this node to its desired state: pulls models, starts and stops the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

from agent.core.backoff import BackoffPolicy, full_jitter_ms
from agent.core.engine_status import EngineEndpoint, EngineState, EngineStatus
from agent.core.reconcile import (
    Held,
    HeldReplica,
    Pull,
    StartEngine,
    Step,
    StopEngine,
    next_steps,
    wanted_model,
)
from agent.core.samples import Sample, Samples
from agent.tasks import Background
from protos.domain.errors import EdgeForgeError
from protos.domain.resources import DesiredReplica, ReplicaState

if TYPE_CHECKING:
    from agent.artifacts.objects import ObjectStore

_log = logging.getLogger(__name__)

_PULL_BACKOFF = BackoffPolicy(base_ms=500.0, cap_ms=30_000.0)
_ABSENT = EngineStatus(EngineState.ABSENT, None, 0, 0, 0.0, None, None)

_REPLICA_STATE = {
    EngineState.ABSENT: ReplicaState.STOPPING,
    EngineState.STARTING: ReplicaState.STARTING,
    EngineState.WARMING: ReplicaState.STARTING,
    EngineState.READY: ReplicaState.READY,
    EngineState.STOPPING: ReplicaState.STOPPING,
    EngineState.BACKOFF: ReplicaState.STARTING,
    EngineState.FAILED: ReplicaState.FAILED,
}


class Engine(Protocol):
    """What runs a model: a vLLM child process, or an external server."""

    @property
    def status(self) -> EngineStatus: ...
    @property
    def ready_endpoint(self) -> EngineEndpoint | None: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


class Replicas:
    """Reconciles this node with its desired replicas, on one event loop.

    ``make_engine`` builds the engine for a model in the given directory; None on a node whose
    engine is external or absent.
    """

    def __init__(
        self,
        models: ObjectStore,
        *,
        make_engine: Callable[[DesiredReplica, str], Engine] | None,
        external: Engine | None,
        on_change: Callable[[], None],
        draw: Callable[[], float],
    ) -> None:
        self._models = models
        self._make_engine = make_engine
        self._external = external
        self._on_change = on_change
        self._draw = draw
        self._desired: Mapping[str, DesiredReplica] = {}
        self._complete: set[str] = set()
        self._pulling: set[str] = set()
        self._errors: dict[str, str] = {}
        self._engine: Engine | None = None
        self._engine_model: str | None = None
        self._wake = asyncio.Event()
        self._background = Background(max_tasks=64)

    def set_desired(self, desired: Mapping[str, DesiredReplica]) -> None:
        """Take a new table of desired replicas."""
        self._desired = desired
        self._wake.set()

    def changed(self) -> None:
        """Reconcile and report again: the engine's state has changed."""
        self._wake.set()
        self._on_change()

    def endpoint_for(self, model: str) -> EngineEndpoint | None:
        """Return the endpoint that serves ``model`` on this node now, or None. Hot."""
        if model not in self._desired:
            return None
        if model == self._engine_model and self._engine is not None:
            return self._engine.ready_endpoint
        if self._external is not None:
            return self._external.ready_endpoint
        return None

    def ready_models(self) -> list[str]:
        """Return the models that are served on this node now."""
        return [model for model in self._desired if self.endpoint_for(model) is not None]

    @property
    def engine_status(self) -> EngineStatus:
        """The engine's status, whichever kind it is."""
        engine = self._external or self._engine
        return engine.status if engine is not None else _ABSENT

    @property
    def engine_kind(self) -> str:
        """``engine.kind`` of the configuration: external, vllm or none."""
        if self._external is not None:
            return "external"
        return "none" if self._make_engine is None else "vllm"

    def report(self) -> list[HeldReplica]:
        """Return the state of each desired model."""
        return [self._report_one(model) for model in self._desired]

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield whether the engine is ready, and its restarts."""
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

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return the engine and the desired models."""
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
        }

    async def run(self) -> None:
        """Reconcile until cancelled, then stop the engine."""
        try:
            if self._external is not None:
                await self._external.start()
            while True:
                self._wake.clear()
                await self._reconcile()
                await self._wake.wait()
        finally:
            await self._background.close()
            for engine in (self._engine, self._external):
                if engine is not None:
                    await engine.stop()

    async def _reconcile(self) -> None:
        if self._make_engine is None:
            return
        wanted = wanted_model(self._desired)
        if wanted is not None and self._models.is_complete(wanted):
            self._complete.add(wanted.model)
        held = Held(frozenset(self._complete), frozenset(self._pulling), self._engine_model)
        for step in next_steps(self._desired, held):
            await self._perform(step)

    async def _perform(self, step: Step) -> None:
        match step:
            case Pull(desired):
                self._pulling.add(desired.model)
                self._background.spawn(self._pull(desired), name=f"pull-{desired.model}")
            case StartEngine(desired):
                await self._start(desired)
            case StopEngine(model):
                _log.info("engine stopping, its model is wanted no longer model=%s", model)
                if self._engine is not None:
                    await self._engine.stop()
                self._engine, self._engine_model = None, None
                self._wake.set()
        self._on_change()

    async def _start(self, desired: DesiredReplica) -> None:
        assert self._make_engine is not None
        engine = self._make_engine(desired, str(self._models.path_of(desired)))
        try:
            await engine.start()
        except EdgeForgeError as error:
            _log.error("engine cannot start model=%s reason=%s", desired.model, error)
            self._errors[desired.model] = str(error)
            return
        self._engine, self._engine_model = engine, desired.model
        self._errors.pop(desired.model, None)

    async def _pull(self, desired: DesiredReplica) -> None:
        """Pull, with retries, until the model is complete or no longer desired."""
        failures = 0
        try:
            while self._desired.get(desired.model) == desired:
                try:
                    path = await self._models.ensure(desired)
                except* EdgeForgeError as group:
                    failures += 1
                    error = group.exceptions[0]
                    self._errors[desired.model] = str(error)
                    _log.warning("pull failed model=%s reason=%s", desired.model, error)
                    self._on_change()
                    pause_ms = full_jitter_ms(_PULL_BACKOFF, failures, self._draw())
                    await asyncio.sleep(max(pause_ms, 50.0) / 1_000)
                else:
                    _log.info("model pulled model=%s path=%s", desired.model, path.name)
                    self._errors.pop(desired.model, None)
                    self._complete.add(desired.model)
                    break
        finally:
            self._pulling.discard(desired.model)
            self.changed()

    def _report_one(self, model: str) -> HeldReplica:
        error = self._errors.get(model, "")
        if self._external is not None:
            status = self._external.status
            return HeldReplica(
                model, _REPLICA_STATE[status.state], status.generation, status.last_error or ""
            )
        if model == self._engine_model and self._engine is not None:
            status = self._engine.status
            state = _REPLICA_STATE[status.state]
            return HeldReplica(model, state, status.generation, status.last_error or error)
        if model in self._pulling:
            return HeldReplica(model, ReplicaState.PULLING, 0, error)
        state = ReplicaState.FAILED if error else ReplicaState.STARTING
        return HeldReplica(model, state, 0, error)
