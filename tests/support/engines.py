"""A supervisor or an external engine under test, with what it reported."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.backoff import BackoffPolicy
from agent.core.engine_policy import EnginePolicy
from agent.engine.driver import RelayedAt, never_relayed
from agent.engine.external import ExternalEngine
from agent.engine.supervisor import EngineSupervisor
from tests.support.engine_host import spec_for
from tests.support.fake_engine_process import EngineClient
from tests.support.waiting import wait_until_async

if TYPE_CHECKING:
    from agent.core.engine_status import EngineState, EngineStatus

#: Probes often, but allows a busy machine as much time as a real engine gets.
QUICK_POLICY = EnginePolicy(
    start_timeout_ms=60_000,
    start_probe_interval_ms=20,
    generate_timeout_ms=10_000,
    live_probe_interval_ms=50,
    live_probe_retry_ms=300,
    stop_grace_ms=10_000,
    kill_interval_ms=2_000,
    backoff=BackoffPolicy(20, 200),
)


class Watched:
    """An engine and every status it reported."""

    def __init__(self) -> None:
        self.engine: EngineSupervisor | ExternalEngine | None = None
        self.seen: list[EngineStatus] = []

    @property
    def status(self) -> EngineStatus:
        assert self.engine is not None
        return self.engine.status

    @property
    def states(self) -> list[EngineState]:
        """The states in order, without repetition."""
        states = [status.state for status in self.seen]
        return [one for at, one in enumerate(states) if at == 0 or states[at - 1] is not one]

    @property
    def control(self) -> EngineClient:
        """The fake engine behind the endpoint."""
        endpoint = self.status.endpoint
        assert endpoint is not None
        return EngineClient(uds=endpoint.uds_path, port=endpoint.port)

    async def until(
        self, state: EngineState, *, generation: int = 0, timeout_s: float = 60
    ) -> EngineStatus:
        """Return the status once it is ``state``, of at least ``generation``."""

        def arrived() -> bool:
            status = self.status
            return status.state is state and status.generation >= generation

        await wait_until_async(arrived, timeout_s, f"engine {state}, was {self.states}")
        return self.status


@contextlib.asynccontextmanager
async def supervised(
    environment: Path,
    state_dir: Path,
    policy: EnginePolicy = QUICK_POLICY,
    relayed_mono_ms: RelayedAt = never_relayed,
) -> AsyncIterator[Watched]:
    """Start a supervisor, and stop it at the end."""
    watched = Watched()
    watched.engine = EngineSupervisor(
        spec_for(environment),
        state_dir=state_dir,
        now_mono_ms=lambda: time.monotonic() * 1000,
        draw=random.random,
        on_change=watched.seen.append,
        policy=policy,
        relayed_mono_ms=relayed_mono_ms,
    )
    await watched.engine.start()
    try:
        yield watched
    finally:
        await watched.engine.stop()


@contextlib.asynccontextmanager
async def external(url: str, policy: EnginePolicy = QUICK_POLICY) -> AsyncIterator[Watched]:
    """Watch the server at ``url``, and leave it at the end."""
    watched = Watched()
    watched.engine = ExternalEngine(
        url,
        now_mono_ms=lambda: time.monotonic() * 1000,
        on_change=watched.seen.append,
        policy=policy,
    )
    await watched.engine.start()
    try:
        yield watched
    finally:
        await watched.engine.stop()
