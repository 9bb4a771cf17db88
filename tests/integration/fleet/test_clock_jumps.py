"""The wall clock of an agent jumps an hour: clients notice nothing, its traces are marked."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from coordinator.devfleet.layout import FleetLayout
from coordinator.devfleet.processes import start_process
from tests.support import jumping_agent
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet
from tests.support.waiting import wait_until

HOUR_MS = 3_600_000
IDLE_MS = 3_000


class WallClock:
    """The wall clock of the agent under test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set(0)

    def set(self, ahead_ms: int) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_text(str(ahead_ms))
        fresh.replace(self.path)


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngineProcess]:
    with FakeEngineProcess("acme-chat") as process:
        yield process


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> WallClock:
    return WallClock(tmp_path_factory.mktemp("clock") / "ahead_ms")


@pytest.fixture(scope="module")
def fleet(
    engine: FakeEngineProcess, clock: WallClock, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """IAD with the engine; GRU, through which clients come, has the clock that jumps."""
    with Fleet(tmp_path_factory.mktemp("c"), [engine.url]) as running:
        running.configure("gru-1", "limits", max_wait_ms=IDLE_MS, max_attempts=1)
        running.kill("gru-1")
        layout = FleetLayout(running.state_dir)
        argv = [sys.executable, str(jumping_agent.__file__), str(clock.path), "serve"]
        argv += ["--config", str(layout.agent_config("gru-1"))]
        (facts,) = [agent for agent in running.facts["agents"] if agent["node"] == "gru-1"]
        facts["pid"] = start_process(layout, "gru-1", argv)
        running.wait_caught_up("gru-1")
        yield running


@pytest.fixture
def gru(fleet: Fleet, clock: WallClock, engine: FakeEngineProcess) -> AgentClient:
    """GRU, its clock right, and a request ended since: an answer comes before its end."""
    engine.control()
    clock.set(0)
    agent = fleet.agent("gru-1")
    answer = agent.chat()
    assert answer.status == 200
    wait_ended(agent, answer.headers["x-edgeforge-trace-id"])
    return agent


@contextmanager
def begun_stream(agent: AgentClient) -> Iterator[HTTPResponse]:
    """Ask for a stream and hand out its answer once tokens come."""
    connection = agent.connect()
    body = json.dumps({"model": agent.model, "messages": [], "stream": True})
    headers = {"authorization": f"Bearer {agent.api_key}", "content-type": "application/json"}
    with closing(connection):
        connection.request("POST", "/v1/chat/completions", body, headers)
        with connection.getresponse() as response:
            assert response.status == 200
            assert response.readline().startswith(b"data: ")
            yield response


def wait_ended(agent: AgentClient, trace_id: str) -> None:
    wait_until(lambda: agent.last_request()["trace_id"] == trace_id, 20, "its end")


def trace_of(fleet: Fleet, trace_id: str) -> dict[str, Any]:
    wait_ended(fleet.agent("gru-1"), trace_id)
    wait_until(lambda: fleet.agent("gru-1").status()["link"]["connected"], 30, "the link")
    return dict(json.loads(fleet.edgeforge("trace", "show", trace_id, "--json")))


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS])
def test_a_clock_that_jumps_an_hour_changes_no_stream_and_marks_its_trace(
    fleet: Fleet, gru: AgentClient, clock: WallClock, engine: FakeEngineProcess, jump_ms: int
) -> None:
    engine.control(tokens=40, token_delay_ms=20)
    with begun_stream(gru) as response:
        clock.set(jump_ms)
        rest = response.read()
    assert rest.endswith(b"data: [DONE]\n\n")
    assert b"error" not in rest
    trace = trace_of(fleet, response.headers["x-edgeforge-trace-id"])
    assert trace["clock_jumped"]
    assert trace["tokens"]["completion"] == 40
    assert 39 * 20 <= trace["ended_ms"] < 60_000, "durations are the monotonic clock's"
    assert "wall clock jumped" in fleet.edgeforge("trace", "show", trace["trace_id"])
    after = gru.chat(stream=True)
    assert after.status == 200
    assert not trace_of(fleet, after.headers["x-edgeforge-trace-id"])["clock_jumped"]


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS])
def test_a_clock_that_jumps_an_hour_moves_no_deadline(
    gru: AgentClient, clock: WallClock, engine: FakeEngineProcess, jump_ms: int
) -> None:
    engine.control(tokens=8, stall_after_tokens=3)
    began_s = time.monotonic()
    with begun_stream(gru) as response:
        clock.set(jump_ms)
        rest = response.read()
    waited_ms = (time.monotonic() - began_s) * 1_000
    assert b"event: error" in rest or b'"error"' in rest
    assert IDLE_MS <= waited_ms < 60_000, "neither at once nor in an hour"


def test_a_jump_between_two_requests_marks_the_later_one(
    fleet: Fleet, gru: AgentClient, clock: WallClock
) -> None:
    clock.set(HOUR_MS)
    marked, next_one = gru.chat(stream=True), gru.chat(stream=True)
    assert trace_of(fleet, next_one.headers["x-edgeforge-trace-id"])["clock_jumped"] is False
    trace_id = marked.headers["x-edgeforge-trace-id"]
    shown = json.loads(fleet.edgeforge("trace", "show", trace_id, "--json"))
    assert shown["clock_jumped"] is True
