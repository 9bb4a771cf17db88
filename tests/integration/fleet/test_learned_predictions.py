"""Placement by what first tokens took, once there are enough of them; by profile until then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from protos.domain.learned_ttft import LEARNED_TERMS
from protos.domain.predictor import FEW_OBSERVATIONS
from tests.support.twins import MODEL, Twins, twin_fleet

SLOW_MS = 800
BUDGET_MS = 500
#: By then it must have been found out.
MOST_REQUESTS = 5 * FEW_OBSERVATIONS


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """A fleet that has learned nothing but what it took to come up."""
    with twin_fleet(tmp_path_factory.mktemp("p"), hedge_ratio=0.0) as running:
        yield running


def explained(twins: Twins) -> dict[str, Any]:
    """What GRU would do with a budget of ``BUDGET_MS`` now, by node."""
    return {one["node_id"]: one for one in twins.fleet.explain(MODEL, "gru-1", BUDGET_MS)}


def names(line: dict[str, Any]) -> list[str]:
    return [term["name"] for term in line["terms"]]


def test_whole_answers_teach_nothing_since_their_first_token_is_not_seen(twins: Twins) -> None:
    before = names(explained(twins)["iad-1"])
    for _ in range(2 * FEW_OBSERVATIONS):
        assert twins.agent.chat().status == 200
    assert names(explained(twins)["iad-1"]) == before


def test_a_target_slower_than_its_profile_is_found_out_and_left_for_one_in_time(
    twins: Twins,
) -> None:
    before = explained(twins)
    assert before["iad-1"]["chosen"], "cheaper, and in time by its profile"
    assert "engine" in names(before["iad-1"])
    twins.iad.control(first_token_delay_ms=SLOW_MS)
    generous = {"x-edgeforge-ttft-budget-ms": "60000"}
    for _ in range(MOST_REQUESTS):
        assert twins.agent.chat(stream=True, headers=generous).status == 200
        if (after := explained(twins))["iad-1"]["ttft_ms_p99"] > SLOW_MS:
            break
    line = after["iad-1"]
    assert names(line) == list(LEARNED_TERMS)
    assert line["ttft_ms_p99"] > SLOW_MS
    assert sum(term["value_ms"] for term in line["terms"]) == pytest.approx(
        line["ttft_ms_p99"], abs=0.1
    )
    assert not line["fits"]
    assert after["gru-1"]["chosen"]
    tight = {"x-edgeforge-ttft-budget-ms": str(BUDGET_MS)}
    answer = twins.agent.chat(stream=True, headers=tight)
    assert answer.headers["x-edgeforge-node"] == "gru-1"
