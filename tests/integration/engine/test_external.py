"""An external engine: its model is found out, it is probed, and never ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from agent.core.engine_status import EngineState
from tests.support.engines import QUICK_POLICY, external
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.waiting import wait_until_async

STARTING, READY, BACKOFF = EngineState.STARTING, EngineState.READY, EngineState.BACKOFF


@pytest.fixture
def engine() -> Iterator[FakeEngineProcess]:
    with FakeEngineProcess("meta/llama") as process:
        yield process


async def test_its_model_is_found_out(engine: FakeEngineProcess) -> None:
    async with external(engine.url + "/v1") as watched:
        status = await watched.until(READY)
        assert status.endpoint is not None
        assert status.endpoint.model == "meta/llama"
        assert (status.endpoint.host, status.endpoint.port) == ("127.0.0.1", engine.port)
        assert status.endpoint.uds_path is None
        assert not status.endpoint.tls
        assert status.endpoint.supports_continuous_usage
        assert status.pid is None
    assert watched.status.state is EngineState.ABSENT
    assert engine.requests(looks=True), "it has ended with us"


async def test_one_that_counts_only_at_the_end(engine: FakeEngineProcess) -> None:
    engine.control(continuous_usage=False)
    async with external(engine.url) as watched:
        status = await watched.until(READY)
        assert status.endpoint is not None
        assert not status.endpoint.supports_continuous_usage


async def test_one_that_refuses_the_option(engine: FakeEngineProcess) -> None:
    engine.control(error_status=400, remaining=1)
    async with external(engine.url) as watched:
        status = await watched.until(READY)
        assert status.endpoint is not None
        assert not status.endpoint.supports_continuous_usage


async def test_one_that_cannot_chat(engine: FakeEngineProcess) -> None:
    engine.control(error_status=400, remaining=2)
    async with external(engine.url) as watched:
        status = await watched.until(READY)
        assert status.endpoint is not None
        assert status.endpoint.supports_continuous_usage
        assert engine.requests(looks=True)[-1]["path"] in ("/v1/completions", "/v1/models")


async def test_it_goes_and_comes_back(engine: FakeEngineProcess) -> None:
    policy = replace(QUICK_POLICY, start_timeout_ms=1_000)
    async with external(engine.url, policy) as watched:
        await watched.until(READY)
        engine.kill()
        gone = await watched.until(BACKOFF)
        assert gone.endpoint is None
        assert gone.last_error is not None
        engine.start()
        back = await watched.until(READY, generation=2)
        assert back.endpoint is not None


async def test_one_that_ended_is_known_by_refused_connections_long_before_a_stall(
    engine: FakeEngineProcess,
) -> None:
    policy = replace(QUICK_POLICY, start_timeout_ms=1_000, stall_timeout_ms=600_000)
    async with external(engine.url, policy) as watched:
        await watched.until(READY)
        engine.kill()
        gone = await watched.until(BACKOFF)
        assert gone.last_error == f"nothing listens at {engine.url}"


async def test_one_that_says_nothing_is_left_after_the_stall_timeout(
    engine: FakeEngineProcess,
) -> None:
    async with external(engine.url, replace(QUICK_POLICY, stall_timeout_ms=1_000)) as watched:
        await watched.until(READY)
        engine.control(hang_models=True)
        gone = await watched.until(BACKOFF)
        assert "made no progress for 1 s" in str(gone.last_error)
        engine.control()
        await watched.until(READY, generation=2)


async def test_it_comes_back_with_another_model(engine: FakeEngineProcess) -> None:
    async with external(engine.url) as watched:
        await watched.until(READY)
        engine.kill()
        engine.model = "mistral/small"
        engine.start()
        status = await watched.until(READY, generation=2)
        assert status.endpoint is not None
        assert status.endpoint.model == "mistral/small"


async def test_one_that_is_not_there_yet_is_awaited(engine: FakeEngineProcess) -> None:
    engine.kill()
    policy = replace(QUICK_POLICY, start_timeout_ms=500)
    async with external(engine.url, policy) as watched:
        await watched.until(STARTING, generation=4)
        assert EngineState.FAILED not in watched.states
        engine.start()
        await watched.until(READY)


async def test_once_ready_it_is_not_made_to_generate(engine: FakeEngineProcess) -> None:
    async with external(engine.url) as watched:
        await watched.until(READY)
        engine.forget()
        looks = lambda: engine.requests(looks=True)  # noqa: E731
        await wait_until_async(lambda: len(looks()) >= 3, 30, "three more looks")
        assert {request["path"] for request in looks()} == {"/v1/models"}
