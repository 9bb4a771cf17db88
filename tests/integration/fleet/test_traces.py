"""Where latency and cost were paid, as clients read it on their answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Answer, Fleet

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngineProcess]:
    with FakeEngineProcess("acme-chat") as process:
        yield process


@pytest.fixture(scope="module")
def fleet(engine: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """IAD with the engine, GRU without: every request through GRU takes a hop."""
    with Fleet(tmp_path_factory.mktemp("t"), [engine.url]) as running:
        yield running


@pytest.fixture(autouse=True)
def obedient(engine: FakeEngineProcess) -> None:
    engine.control()


def timing(answer: Answer) -> dict[str, float]:
    """The parts of Server-Timing and their durations."""
    parts = {}
    for part in answer.headers["server-timing"].split(", "):
        name, _, duration = part.partition(";dur=")
        parts[name] = float(duration)
    return parts


def test_server_timing_of_a_stream_over_a_hop_tells_network_from_engine(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    engine.control(first_token_delay_ms=150)
    answer = fleet.agent("gru-1").chat(stream=True)
    parts = timing(answer)
    assert list(parts) == ["auth", "route", "network", "admission", "queue", "prefill"]
    assert parts["prefill"] >= 149, "the engine's part, as its own agent measured it"
    record = fleet.agent("gru-1").last_request()
    assert sum(parts.values()) <= record["ttft_ms"] + 1.0
    assert parts["network"] > 0.0


def test_server_timing_of_a_whole_answer_says_answer_and_what_it_cost(fleet: Fleet) -> None:
    answer = fleet.agent("iad-1").chat()
    assert list(timing(answer)) == ["auth", "route", "network", "admission", "queue", "answer"]
    cost_nano_usd = int(Decimal(answer.headers["x-edgeforge-cost-usd"]) * 10**9)
    assert cost_nano_usd == fleet.agent("iad-1").last_request()["cost_nano_usd"] > 0


def test_the_usage_chunk_of_a_stream_tells_its_cost(fleet: Fleet) -> None:
    gru = fleet.agent("gru-1")
    answer = gru.chat(stream=True, stream_options={"include_usage": True})
    (told,) = [
        json.loads(event, parse_float=Decimal)
        for event in answer.events()
        if '"choices":[]' in event
    ]
    assert told["usage"]["completion_tokens"] == 8
    assert int(told["cost_usd"] * 10**9) == gru.last_request()["cost_nano_usd"] > 0


def test_a_stream_whose_client_asked_for_no_usage_tells_no_cost(fleet: Fleet) -> None:
    answer = fleet.agent("gru-1").chat(stream=True)
    assert b"cost_usd" not in answer.body
    assert b"usage" not in answer.body
