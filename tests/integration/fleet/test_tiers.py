"""Tiers, zones and budgets through real agents: who serves, who is refused, what is on record."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until

BUDGET = "x-edgeforge-ttft-budget-ms"
RESIDENCY = "x-edgeforge-residency"


@pytest.fixture(scope="module")
def engines() -> Iterator[list[FakeEngineProcess]]:
    with FakeEngineProcess("twin") as iad, FakeEngineProcess("twin") as gru:
        yield [iad, gru]


@pytest.fixture(scope="module")
def fleet(
    engines: list[FakeEngineProcess], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """The same model on IAD (central, US) and on GRU (edge, BR)."""
    with Fleet(tmp_path_factory.mktemp("t"), [engine.url for engine in engines]) as running:
        yield running


@pytest.fixture(autouse=True)
def obedient(engines: list[FakeEngineProcess]) -> None:
    for engine in engines:
        engine.control()
        engine.forget()


def chat(fleet: Fleet, headers: dict[str, str]):
    agent = fleet.agent("gru-1")
    return agent.send({"model": agent.model, "messages": []}, headers=headers)


def chosen(fleet: Fleet) -> str:
    """Where a request with a lot of time would go now."""
    return fleet.chosen(fleet.model, "gru-1", 100_000)


@pytest.mark.parametrize("budget", ["0", "-5", "nan", "inf-ish", ""])
def test_a_budget_of_zero_negative_or_nan_is_400(fleet: Fleet, budget: str) -> None:
    answer = chat(fleet, {BUDGET: budget})
    assert answer.status == 400
    assert answer.json()["error"]["param"] == BUDGET


def test_a_budget_of_a_year_is_accepted(fleet: Fleet) -> None:
    answer = chat(fleet, {BUDGET: str(365 * 86_400_000)})
    assert answer.status == 200
    assert answer.headers["x-edgeforge-tier"] == "central", "there is time for the cheapest"


def test_a_budget_that_nobody_can_keep_is_served_by_the_fastest_and_marked(fleet: Fleet) -> None:
    answer = chat(fleet, {BUDGET: "0.5"})
    assert answer.status == 200
    assert answer.headers["x-edgeforge-predicted-miss"] == "true"
    assert fleet.agent("gru-1").last_request()["predicted_miss"]


def test_a_forged_tier_changes_nothing(fleet: Fleet) -> None:
    forged = {"x-edgeforge-tier": "edge", "x-edgeforge-node": "gru-1", BUDGET: "100000"}
    answer = chat(fleet, forged)
    assert answer.status == 200
    assert answer.headers["x-edgeforge-tier"] == "central"
    assert answer.headers["x-edgeforge-node"] == "iad-1"


def test_residency_narrows_to_the_zones_that_are_named(fleet: Fleet) -> None:
    for zone, node in (("BR", "gru-1"), ("US", "iad-1")):
        answer = chat(fleet, {RESIDENCY: zone, BUDGET: "100000"})
        assert answer.headers["x-edgeforge-node"] == node


def test_residency_that_leaves_nothing_is_503_that_says_so_and_nobody_else_is_asked(
    fleet: Fleet, engines: list[FakeEngineProcess]
) -> None:
    engines[0].kill()
    try:
        wait_until(
            lambda: chat(fleet, {RESIDENCY: "US"}).status == 503, 20, "IAD to be known as down"
        )
        engines[1].forget()
        answer = chat(fleet, {RESIDENCY: "US"})
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["code"] == "no_replica"
        assert engines[1].requests() == [], "never outside the zone"
        record = fleet.agent("gru-1").last_request()
        assert record["status"] == 503
        assert record["error"]
        assert chat(fleet, {}).headers["x-edgeforge-node"] == "gru-1", "others are served"
    finally:
        engines[0].start()
        wait_until(lambda: chat(fleet, {RESIDENCY: "US"}).status == 200, 30, "IAD to be back")


def test_a_zone_that_does_not_exist_is_503_not_everywhere(
    fleet: Fleet, engines: list[FakeEngineProcess]
) -> None:
    assert chat(fleet, {RESIDENCY: "XX"}).status == 503
    assert [engine.requests() for engine in engines] == [[], []]


def test_a_stream_ends_normally_when_its_deployment_is_pinned_elsewhere(
    fleet: Fleet, engines: list[FakeEngineProcess]
) -> None:
    engines[0].control(hold_after_tokens=3)
    agent = fleet.agent("gru-1")
    connection = agent.connect(60.0)
    body = {"model": agent.model, "messages": [], "stream": True}
    headers = {"authorization": f"Bearer {agent.api_key}", BUDGET: "100000"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    response = connection.getresponse()
    assert response.getheader("x-edgeforge-node") == "iad-1"
    response.readline()
    fleet.edgeforge("deployment", "set", agent.model, "--node", "gru-1")
    wait_until(lambda: chosen(fleet) == "gru-1", 30, "new requests to go elsewhere")
    engines[0].control()
    rest = response.read().decode()
    assert "data: [DONE]" in rest
    assert '"error"' not in rest
    connection.close()
    fleet.edgeforge("deployment", "set", agent.model, "--node", "iad-1", "--node", "gru-1")
    wait_until(lambda: chosen(fleet) == "iad-1", 30, "the cheaper node to be back")
