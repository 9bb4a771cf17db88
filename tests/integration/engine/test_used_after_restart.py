"""What clients see of an engine that ends, comes back, or has much to do: a real fleet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Answer, Fleet
from tests.support.waiting import wait_until

STREAMS = 8
STALL_TIMEOUT_MS = 4_000


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngineProcess]:
    with FakeEngineProcess("acme-chat") as process:
        yield process


@pytest.fixture(scope="module")
def fleet(engine: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """IAD with the engine, GRU without; a stall is found out, and the engine probed, soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEFORGE_AGENT__ENGINE__STALL_TIMEOUT_MS", str(STALL_TIMEOUT_MS))
        with Fleet(tmp_path_factory.mktemp("r"), [engine.url]) as running:
            yield running


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(STREAMS) as pool:
        yield pool


def running(engine: FakeEngineProcess) -> int:
    return sum(request["state"] == "running" for request in engine.requests())


def start_streams(threads: ThreadPoolExecutor, agent: AgentClient) -> list[Future[Answer]]:
    return [threads.submit(agent.chat, stream=True) for _ in range(STREAMS)]


def chosen(fleet: Fleet, node: str) -> str:
    """Where ``node`` would place a request now; empty when nowhere."""
    explain = ("route", "explain", "--deployment", "acme-chat", "--via", node, "--json")
    candidates = json.loads(fleet.edgeforge(*explain))["candidates"]
    return next((str(one["node_id"]) for one in candidates if one["chosen"]), "")


@pytest.mark.parametrize("node", ["iad-1", "gru-1"])
def test_an_engine_is_used_at_once_after_its_restart_by_its_own_node_and_by_others(
    engine: FakeEngineProcess, fleet: Fleet, threads: ThreadPoolExecutor, node: str
) -> None:
    """Streams that broke with the old process are no failures of the new one."""
    agent, host = fleet.agent(node), fleet.agent("iad-1")
    wait_until(lambda: agent.chat().status == 200, 60, "the engine to be used")
    engine.control(hold_after_tokens=2)
    broken = start_streams(threads, agent)
    wait_until(lambda: running(engine) == STREAMS, 60, "the streams to run")
    generation = host.status()["engine"]["generation"]
    engine.kill()
    assert all(b'"error"' in stream.result(60).body for stream in broken)
    assert agent.status()["first_byte"]["ejected"] == 1
    wait_until(lambda: host.status()["engine"]["state"] != "ready", 60, "its end to be seen")
    engine.start()
    wait_until(lambda: host.status()["engine"]["state"] == "ready", 60, "it to be ready")
    assert host.status()["engine"]["generation"] > generation
    wait_until(lambda: chosen(fleet, node) == "iad-1", 60, "a probe to have found it ready")
    # A trial may be chosen before the probe that finds the new engine has ended the ejection.
    wait_until(lambda: agent.status()["first_byte"]["ejected"] == 0, 10, "no ejection any more")
    engine.control(hold_after_tokens=1)
    engine.forget()
    streams = start_streams(threads, agent)
    wait_until(lambda: running(engine) == STREAMS, 60, "all of them to run at once")
    engine.control()
    assert [stream.result(60).status for stream in streams] == [200] * STREAMS


def test_an_engine_whose_probes_are_not_answered_is_kept_while_its_tokens_flow(
    engine: FakeEngineProcess, fleet: Fleet
) -> None:
    host = fleet.agent("iad-1")
    wait_until(lambda: host.chat().status == 200, 60, "the engine to be used")
    generation = host.status()["engine"]["generation"]
    tokens = 20
    engine.control(hang_models=True, tokens=tokens, token_delay_ms=3 * STALL_TIMEOUT_MS / tokens)
    answer = fleet.agent("gru-1").chat(stream=True)
    assert answer.events()[-1] == "[DONE]"
    assert host.status()["engine"]["generation"] == generation
    assert host.status()["engine"]["state"] == "ready"
    ended = lambda: "made no progress" in str(host.status()["engine"]["last_error"])  # noqa: E731
    wait_until(ended, 60, "it to be left once nothing comes out of it")
    engine.control()
    wait_until(lambda: host.chat().status == 200, 60, "the engine to be used again")
