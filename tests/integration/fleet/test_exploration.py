"""Targets that placement leaves alone are found out: by a few streams, at nobody's cost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from protos.domain.predictor import FEW_OBSERVATIONS
from tests.support.twins import MODEL, Twins, twin_fleet
from tests.support.waiting import wait_until

GENEROUS = {"x-edgeforge-ttft-budget-ms": "60000"}
TIGHT = {"x-edgeforge-ttft-budget-ms": "500"}
SLOW_MS = 900
STREAMS = 60


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with twin_fleet(tmp_path_factory.mktemp("x"), hedge_ratio=0.0) as running:
        yield running


def test_a_cheaper_target_that_gets_nothing_is_explored_within_its_share_and_on_record(
    twins: Twins,
) -> None:
    """The edge has room and is preferred, so that IAD would never be known."""
    twins.fleet.configure("gru-1", "router", edge_fill_ratio=1.0, explore_ratio=0.1)
    wait_until(lambda: twins.chosen() == "gru-1", 30, "the edge to be preferred")
    before = twins.agent.status()["first_byte"]["explorations_sent"]
    explored = []
    for _ in range(STREAMS):
        answer = twins.agent.chat(stream=True, headers=GENEROUS)
        assert answer.status == 200
        if answer.headers["x-edgeforge-node"] == "iad-1":
            explored.append(twins.outcomes())
            record = twins.agent.last_request()
            assert record["billing_tier"] == "central"
            assert record["attempts"][0]["purpose"] == "explore"
    assert explored
    assert all(outcome == [("iad-1", "answered")] for outcome in explored)
    told = twins.agent.status()["first_byte"]
    assert told["explorations_sent"] - before == len(explored)
    assert told["explore_share"] <= 0.1


def test_a_strict_deployment_is_let_back_to_targets_that_were_slow_for_a_while(
    twins: Twins,
) -> None:
    """Refused, it teaches nothing: without trials it would be refused for ever."""
    engines, agent = (twins.iad, twins.gru), twins.fleet.agent("iad-1")
    twins.fleet.edgeforge("deployment", "set", MODEL, "--strict")
    for engine in engines:
        engine.control(first_token_delay_ms=SLOW_MS)

    def tight() -> int:
        return agent.chat(stream=True, headers=TIGHT).status

    for _ in range(FEW_OBSERVATIONS):
        assert agent.chat(stream=True, headers=GENEROUS).status == 200
    wait_until(lambda: tight() == 429, 60, "everybody to be known as late")
    for engine in engines:
        engine.control()
    wait_until(lambda: tight() == 200, 20, "a trial")
    assert agent.last_request()["attempts"][0]["purpose"] == "trial"
    assert [tight() for _ in range(20)] == [200] * 20, "one in time is followed at once"
    assert agent.status()["first_byte"]["strict_trials"] >= 3
