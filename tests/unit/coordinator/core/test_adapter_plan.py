"""Adapters go where their base is, and into the engine where they are asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.plan_input import PlanRules, Rule
from coordinator.core.replica_plan import plan_replicas
from protos.domain.resources import Adapter, Hold
from tests.support.fleets import deployment
from tests.support.plans import HARDWARE, OTHER, SMALL, host, planned

ADAPTERS = {
    f"acme/l{number}@1": Adapter(f"acme/l{number}@1", SMALL, 8, 1_000, b"")
    for number in range(1, 5)
}


def fleet(nodes=None, *, demand=None, pins=(), adapters=ADAPTERS, **fields):
    """A deployment of each adapter beside the base."""
    asked = {
        f"d{name[6]}": deployment(f"d{name[6]}", model=SMALL, adapter=name) for name in adapters
    }
    return planned(
        nodes or {"gru-1": host()},
        deployments=asked,
        adapters=adapters,
        placements={name: pins for name in asked if pins},
        demand={("GRU", name): value for name, value in (demand or {}).items()},
        **fields,
    )


def adapters_of(plan_input, node_id="gru-1"):
    return {
        name: one.hold for name, one in plan_replicas(plan_input).nodes[node_id].adapters.items()
    }


def test_those_asked_for_most_are_in_the_engine_as_far_as_it_has_slots():
    held = adapters_of(fleet(demand={"d1": 1.0, "d2": 5.0, "d3": 9.0}))
    assert held == {
        "acme/l1@1": Hold.ON_DEMAND,
        "acme/l2@1": Hold.HOT,
        "acme/l3@1": Hold.HOT,
        "acme/l4@1": Hold.ON_DEMAND,
    }


def test_what_nobody_asks_for_may_be_loaded():
    assert set(adapters_of(fleet()).values()) == {Hold.ON_DEMAND}


def test_a_pinned_deployment_has_its_adapter_in_the_engine():
    one = {"acme/l1@1": ADAPTERS["acme/l1@1"]}
    assert adapters_of(fleet(pins=("gru-1",), adapters=one)) == {"acme/l1@1": Hold.HOT}


@pytest.mark.parametrize(
    ("hardware", "says"),
    [
        (replace(HARDWARE, max_adapters=0), "its engine loads no adapters"),
        (replace(HARDWARE, max_adapter_rank=4), "rank 8 of adapter acme/l1@1 is above the 4"),
    ],
)
def test_an_engine_that_can_not_load_it_is_named(hardware, says):
    one = {"acme/l1@1": ADAPTERS["acme/l1@1"]}
    plan = plan_replicas(fleet({"gru-1": host(hardware=hardware)}, pins=("gru-1",), adapters=one))
    assert plan.nodes["gru-1"].adapters == {}
    assert says in plan.unplaced[0].reason


def test_an_adapter_of_another_base_is_never_planned():
    wrong = {"acme/l1@1": replace(ADAPTERS["acme/l1@1"], model=OTHER)}
    plan = plan_replicas(fleet(adapters=wrong))
    assert plan.nodes["gru-1"].adapters == {}
    assert plan.unplaced[0].reason == f"adapter acme/l1@1 is for {OTHER}"


def test_a_forbidden_adapter_is_left_out():
    rules = PlanRules(forbids=(Rule("acme/l1@1", pop_id="GRU"),))
    assert "acme/l1@1" not in adapters_of(fleet(rules=rules))


def test_a_hot_adapter_stays_until_another_is_clearly_more_asked_for():
    key = f"{SMALL}+acme/l1@1"
    held = {SMALL: Hold.HOT, key: Hold.HOT}
    nodes = {"gru-1": host(holds=held, hardware=replace(HARDWARE, max_adapters=1))}
    assert adapters_of(fleet(nodes, demand={"d1": 5.0, "d2": 6.0}))["acme/l1@1"] is Hold.HOT
    assert adapters_of(fleet(nodes, demand={"d1": 5.0, "d2": 9.0}))["acme/l2@1"] is Hold.HOT
