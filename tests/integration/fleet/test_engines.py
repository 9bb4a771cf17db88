"""Engines die, hang and come back; what clients of real agents see of it."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet
from tests.support.waiting import wait_until, waited_s, within_at_best


@pytest.fixture(scope="module")
def two_engines() -> Iterator[list[FakeEngineProcess]]:
    with FakeEngineProcess("twin") as first, FakeEngineProcess("twin") as second:
        yield [first, second]


@pytest.fixture(scope="module")
def twin_fleet(
    two_engines: list[FakeEngineProcess], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """The same model on IAD and on GRU."""
    urls = [engine.url for engine in two_engines]
    with Fleet(tmp_path_factory.mktemp("t"), urls) as running:
        yield running


def test_engine_killed_mid_stream_gives_an_error_event_and_the_next_request_is_served(
    engine: FakeEngineProcess, fleet: Fleet
) -> None:
    for node in ("iad-1", "gru-1"):
        agent = fleet.agent(node)
        engine.control(tokens=8, die_after_tokens=3)
        answer = agent.chat(stream=True)
        assert answer.status == 200
        events = answer.events()
        assert "error" in json.loads(events[-1])
        assert "[DONE]" not in events
        assert answer.body.count(b't2"') == 1
        engine.stop()
        engine.start()
        wait_until(lambda agent=agent: agent.chat().status == 200, 30, "the engine to be back")


def test_engine_killed_before_the_first_byte_another_serves_and_the_attempt_is_on_record(
    two_engines: list[FakeEngineProcess], twin_fleet: Fleet
) -> None:
    agent = twin_fleet.agent("gru-1")
    two_engines[0].control(first_token_delay_ms=400, die_after_tokens=0)
    two_engines[1].control(first_token_delay_ms=400, die_after_tokens=0)
    asked = {"iad-1": two_engines[0], "gru-1": two_engines[1]}
    chosen = json.loads(
        twin_fleet.edgeforge("route", "explain", "--deployment", "twin", "--via", "gru-1", "--json")
    )
    first = next(one["node_id"] for one in chosen["candidates"] if one["chosen"])
    other = "gru-1" if first == "iad-1" else "iad-1"
    asked[other].control()
    answer = agent.chat(stream=True)
    assert answer.status == 200
    assert answer.events()[-1] == "[DONE]"
    record = agent.last_request()
    assert [attempt["node_id"] for attempt in record["attempts"]] == [first, other]
    assert record["attempts"][-1]["outcome"] == "answered"


def test_no_engine_anywhere_is_503_with_retry_after_in_under_50_ms(
    two_engines: list[FakeEngineProcess], twin_fleet: Fleet
) -> None:
    for engine in two_engines:
        engine.kill()
    agent = twin_fleet.agent("gru-1")
    agent.chat()

    def median_s() -> float:
        took_s = []
        for _ in range(20):
            began_s = time.monotonic()
            answer = agent.chat()
            took_s.append(time.monotonic() - began_s)
            assert answer.status == 503, answer.body
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.json()["error"]["code"] == "no_replica"
        return statistics.median(took_s)

    within_at_best(0.05, median_s, tries=5)
    two_engines[0].start()
    wait_until(lambda: agent.chat().status == 200, 30, "the engine that is back to be used")


def test_client_gone_mid_stream_aborts_the_engines_request_within_a_second(
    engine: FakeEngineProcess, fleet: Fleet
) -> None:
    engine.control(tokens=1_000, token_delay_ms=100)

    def until_aborted_s(agent: AgentClient) -> float:
        engine.forget()
        connection = agent.connect()
        body = {"model": agent.model, "messages": [], "stream": True, "max_tokens": 1_000}
        headers = {"authorization": f"Bearer {agent.api_key}"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        response.readline()
        response.close()
        connection.close()
        took_s = waited_s(lambda: engine.running() == 0, 30, "the engine's request to be aborted")
        assert engine.requests()[0]["state"] == "aborted"
        return took_s

    for agent in fleet.agents():
        within_at_best(1.0, partial(until_aborted_s, agent))
