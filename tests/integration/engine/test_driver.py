"""The driver when bodies and listeners misbehave. (Here because an event loop needs a socket.)"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from agent.core.engine_policy import EnginePolicy
from agent.core.engine_status import EngineState, EngineStatus
from agent.engine.driver import EngineDriver
from protos.domain.errors import EngineFailed, NoEngineEnvironment
from tests.support.engines import QUICK_POLICY
from tests.support.scripted_body import ENDPOINT, ScriptedBody
from tests.support.waiting import wait_until_async


class Driven:
    def __init__(self, policy: EnginePolicy = QUICK_POLICY) -> None:
        self.body = ScriptedBody()
        self.seen: list[EngineStatus] = []
        self.listener_error: Exception | None = None
        self.driver = EngineDriver(
            self.body,
            policy,
            now_mono_ms=lambda: time.monotonic() * 1000,
            draw=lambda: 1.0,
            on_change=self.heard,
        )

    def heard(self, status: EngineStatus) -> None:
        self.seen.append(status)
        if self.listener_error is not None:
            raise self.listener_error

    async def until(self, state: EngineState, generation: int = 0) -> EngineStatus:
        def arrived() -> bool:
            status = self.driver.status
            return status.state is state and status.generation >= generation

        await wait_until_async(arrived, 30, f"{state}")
        return self.driver.status


@pytest.fixture
async def driven() -> AsyncIterator[Driven]:
    driven = Driven()
    yield driven
    await driven.driver.stop()


async def test_the_endpoint_is_shown_only_while_ready(driven: Driven) -> None:
    await driven.driver.start()
    status = await driven.until(EngineState.READY)
    assert (status.endpoint, status.pid) == (ENDPOINT, 42)
    driven.body.die("exit code 1")
    assert (await driven.until(EngineState.BACKOFF)).endpoint is None


async def test_a_listener_that_fails_does_not_stop_the_engine(
    driven: Driven, caplog: pytest.LogCaptureFixture
) -> None:
    driven.listener_error = RuntimeError("no ears")
    await driven.driver.start()
    await driven.until(EngineState.READY)
    assert "state could not be reported" in caplog.text


async def test_nothing_is_reported_twice(driven: Driven) -> None:
    await driven.driver.start()
    await driven.until(EngineState.READY)
    assert len(driven.seen) == len(set(driven.seen))


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (EngineFailed("leftovers do not end"), EngineState.BACKOFF),
        (NoEngineEnvironment(["not there"]), EngineState.FAILED),
        (RuntimeError("a bug"), EngineState.BACKOFF),
    ],
)
async def test_a_start_that_fails_is_told_to_the_machine(
    driven: Driven, error: Exception, state: EngineState
) -> None:
    driven.body.spawn_error = error
    await driven.driver.start()
    status = await driven.until(state)
    assert str(error) in str(status.last_error)
    driven.body.spawn_error = None
    if state is EngineState.BACKOFF:
        await driven.until(EngineState.READY)


@pytest.mark.parametrize(
    "error", [EngineFailed("no token"), OSError("refused"), TimeoutError(), RuntimeError("a bug")]
)
async def test_a_probe_that_fails_in_any_way_is_tried_again(
    driven: Driven, error: Exception
) -> None:
    driven.body.probe_error = error
    await driven.driver.start()
    await wait_until_async(lambda: driven.driver.status.pid == 42, 30, "the process")
    driven.body.probe_error = None
    await driven.until(EngineState.READY)


@pytest.mark.parametrize(
    "error", [EngineFailed("no metrics"), OSError("refused"), TimeoutError(), RuntimeError("a bug")]
)
async def test_a_reading_of_the_counters_that_fails_in_any_way_holds_up_no_decision(
    error: Exception,
) -> None:
    driven = Driven(replace(QUICK_POLICY, stall_timeout_ms=200))
    await driven.driver.start()
    await driven.until(EngineState.READY)
    driven.body.probe_error = error
    await wait_until_async(lambda: "kill" in driven.body.done, 30, "the stall to be found out")
    assert "counters" in driven.body.done
    driven.body.probe_error = None
    await driven.until(EngineState.READY, generation=2)
    await driven.driver.stop()


async def test_a_stop_during_a_slow_start_is_not_lost(driven: Driven) -> None:
    driven.body.spawn_gate = asyncio.Event()
    await driven.driver.start()
    await wait_until_async(lambda: driven.body.done == ["spawn"], 30, "the start is under way")
    async with asyncio.TaskGroup() as group:
        group.create_task(driven.driver.stop())
        await driven.until(EngineState.STOPPING)
        driven.body.spawn_gate.set()
    assert driven.body.done == ["spawn", "terminate"]
    assert driven.driver.status.state is EngineState.ABSENT


async def test_a_stop_of_what_never_started(driven: Driven) -> None:
    await driven.driver.stop()
    assert driven.body.done == []
