"""Engines go to what is asked for, and stay with what has them until that is clear."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.replica_plan import plan_replicas
from protos.domain.resources import Hold, NodeIntent
from tests.support.fleets import deployment
from tests.support.plans import BIG, HARDWARE, OTHER, SMALL, host, hot, planned


def one_pop(demand: dict[str, float], *models: str, nodes=None, **fields):
    asked = {("GRU", name): value for name, value in demand.items()}
    return planned(nodes or {"gru-1": host()}, *models, demand=asked, **fields)


def test_the_engine_goes_to_what_is_asked_for_most():
    plan = plan_replicas(one_pop({"d1": 3.0, "d2": 9.0}, SMALL, OTHER))
    assert hot(plan.nodes["gru-1"]) == [OTHER]
    assert plan.nodes["gru-1"].models[OTHER].why == "9 requests per minute in GRU"


@pytest.mark.parametrize(("rival", "winner"), [(10.0, SMALL), (14.0, SMALL), (17.0, OTHER)])
def test_a_model_that_is_hot_stays_until_another_is_clearly_more_asked_for(rival, winner):
    nodes = {"gru-1": host(holds={SMALL: Hold.HOT})}
    plan = plan_replicas(one_pop({"d1": 10.0, "d2": rival}, SMALL, OTHER, nodes=nodes))
    assert hot(plan.nodes["gru-1"]) == [winner]


def test_a_free_engine_is_taken_before_one_that_is_used():
    nodes = {"gru-1": host(holds={SMALL: Hold.HOT}), "gru-2": host()}
    plan = plan_replicas(one_pop({"d1": 1.0, "d2": 50.0}, SMALL, OTHER, nodes=nodes))
    assert [hot(draft) for draft in plan.nodes.values()] == [[SMALL], [OTHER]]


def test_what_one_engine_could_not_generate_gets_more_of_them():
    nodes = {f"gru-{number}": host(tokens_per_s=400.0) for number in range(1, 4)}
    plan = plan_replicas(one_pop({"d1": 150.0}, SMALL, nodes=nodes))
    assert sum(hot(draft) == [SMALL] for draft in plan.nodes.values()) == 2


def test_what_does_not_fit_the_memory_is_not_hot_however_much_it_is_asked_for():
    plan = plan_replicas(one_pop({"d1": 900.0, "d2": 1.0}, BIG, SMALL))
    assert hot(plan.nodes["gru-1"]) == [SMALL]


def test_demand_where_a_deployment_may_not_be_moves_nothing():
    asked = {"d1": deployment("d1", model=SMALL, zones=("EU",))}
    fleet = one_pop({"d1": 900.0}, deployments=asked)
    assert plan_replicas(fleet).nodes["gru-1"].models == {}


def test_a_node_that_drains_does_not_count_and_keeps_what_it_has():
    nodes = {
        "gru-1": host(holds={SMALL: Hold.HOT}, intent=NodeIntent.DRAINING),
        "gru-2": host(),
    }
    plan = plan_replicas(one_pop({"d1": 5.0}, SMALL, nodes=nodes))
    assert [hot(draft) for draft in plan.nodes.values()] == [[SMALL], [SMALL]]


def test_two_engines_hold_two_models():
    nodes = {"gru-1": host(hardware=replace(HARDWARE, max_engines=2))}
    plan = plan_replicas(one_pop({"d1": 1.0, "d2": 2.0}, SMALL, OTHER, nodes=nodes))
    assert hot(plan.nodes["gru-1"]) == sorted([SMALL, OTHER])
