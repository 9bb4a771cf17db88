"""An agent drained, resumed and stopped while clients are served."""

from __future__ import annotations

import http.client
import json
import signal
from collections.abc import Iterator

import pytest

from tests.support.agent_process import COMMAND
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet
from tests.support.waiting import wait_until


@pytest.fixture
def engine() -> Iterator[FakeEngineProcess]:
    with FakeEngineProcess("acme-chat") as process:
        yield process


@pytest.fixture
def fleet(engine: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("l"), [engine.url]) as running:
        yield running


def agent_command(fleet: Fleet, node: str, *arguments: str) -> dict[str, object]:
    import subprocess

    config = fleet.state_dir / "agents" / f"{node}.toml"
    done = subprocess.run(
        [COMMAND, *arguments, "--config", config, "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return dict(json.loads(done.stdout))


def open_stream(agent: AgentClient) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    connection = agent.connect(60.0)
    body = {"model": agent.model, "messages": [], "stream": True, "max_tokens": 1_000}
    headers = {"authorization": f"Bearer {agent.api_key}"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    response = connection.getresponse()
    assert response.status == 200
    assert response.readline().startswith(b"data: ")
    return connection, response


def test_drain_lets_a_stream_end_refuses_new_requests_and_resume_takes_them_again(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    agent = fleet.agent("gru-1")
    engine.control(hold_after_tokens=3)
    connection, response = open_stream(agent)
    assert agent_command(fleet, "gru-1", "drain")["draining"]
    refused = agent.chat()
    assert refused.status == 503
    assert int(refused.headers["retry-after"]) >= 1
    engine.control()
    assert "data: [DONE]" in response.read().decode()
    connection.close()
    agent_command(fleet, "gru-1", "drain", "--resume")
    wait_until(lambda: agent.chat().status == 200, 30, "requests to be taken again")


def test_a_drained_engines_node_gets_no_requests_from_its_peers(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    agent_command(fleet, "iad-1", "drain")
    agent = fleet.agent("gru-1")
    wait_until(lambda: agent.chat().status == 503, 30, "nobody to be left")
    engine.forget()
    assert agent.chat().status == 503
    assert engine.requests() == []
    agent_command(fleet, "iad-1", "drain", "--resume")
    wait_until(lambda: agent.chat().status == 200, 30, "iad-1 to be used again")


def test_sigterm_lets_a_stream_end_then_the_agent_exits_cleanly(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    import os

    agent = fleet.agent("gru-1")
    engine.control(tokens=50, token_delay_ms=20)
    connection, response = open_stream(agent)
    os.kill(agent.pid, signal.SIGTERM)
    assert "data: [DONE]" in response.read().decode()
    connection.close()
    wait_until(lambda: "agent stops" in fleet.log("gru-1"), 30, "the stop to be said")
    wait_until(lambda: agent.pid not in fleet.processes(), 20, "the agent to be gone")
    assert "Traceback" not in fleet.log("gru-1")
    fleet.start("gru-1")
    fleet.agent("gru-1").wait_ready()


def test_status_shows_link_tables_and_peers(fleet: Fleet) -> None:
    status = agent_command(fleet, "gru-1", "status")
    assert status["node"] == "gru-1"
    assert status["ready"]
    link = status["link"]
    assert isinstance(link, dict)
    assert link["connected"]


def test_a_drain_that_times_out_ends_streams_with_an_error_event_and_a_counted_line(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    import os

    fleet.configure("gru-1", "limits", drain_timeout_ms=200.0)
    agent = fleet.agent("gru-1")
    engine.control(hold_after_tokens=3)
    connection, response = open_stream(agent)
    os.kill(agent.pid, signal.SIGTERM)
    rest = response.read()
    connection.close()
    engine.control()
    assert b'"error"' in rest
    assert b"time to drain is over" in rest
    wait_until(lambda: "drain timed out requests_cut=1" in fleet.log("gru-1"), 30, "the line")
    wait_until(lambda: agent.pid not in fleet.processes(), 20, "the agent to be gone")
    fleet.start("gru-1")
    fleet.agent("gru-1").wait_ready()
