"""Pins of deployments, operators' rules, and versions that change places."""

from __future__ import annotations

from dataclasses import replace

from coordinator.core.plan_input import PlanRules, Rule
from coordinator.core.replica_plan import plan_replicas
from protos.domain.resources import Hold, ModelSource, Runtime
from tests.support.fleets import deployment
from tests.support.plans import HARDWARE, MODELS, OTHER, SMALL, TWIN, host, hot, planned

HELD = {SMALL: Hold.HOT}


def rollout(nodes, *, model=OTHER, pins=None, phase="preparing", **fields):
    present = replace(deployment("d1", model=SMALL), pins=pins)
    other = replace(present, model=model)
    if phase == "leaving":
        present, other = other, present
    return planned(nodes, deployments={"d1": present}, **{phase: {"d1": other}}, **fields)


def test_half_of_the_nodes_of_one_engine_take_the_next_version():
    nodes = {f"gru-{number}": host(holds=HELD) for number in range(1, 5)}
    plan = plan_replicas(rollout(nodes, pins=frozenset(nodes)))
    assert sorted(hot(draft)[0] for draft in plan.nodes.values()) == [OTHER] * 2 + [SMALL] * 2


def test_one_node_alone_keeps_what_serves_and_gets_the_files():
    plan = plan_replicas(rollout({"gru-1": host(holds=HELD)}, pins=frozenset({"gru-1"})))
    held = {name: one.hold for name, one in plan.nodes["gru-1"].models.items()}
    assert held == {SMALL: Hold.HOT, OTHER: Hold.DISK}


def test_a_node_with_two_engines_has_both_versions():
    two = host(holds=HELD, hardware=replace(HARDWARE, max_engines=2))
    plan = plan_replicas(rollout({"gru-1": two}, pins=frozenset({"gru-1"})))
    assert hot(plan.nodes["gru-1"]) == sorted([SMALL, OTHER])


def test_a_model_that_another_deployment_needs_is_not_taken_over():
    nodes = {"gru-1": host(holds=HELD), "gru-2": host(holds=HELD)}
    fleet = rollout(nodes, pins=frozenset(nodes))
    shared = replace(deployment("d2", model=SMALL), pins=frozenset(nodes))
    plan = plan_replicas(replace(fleet, deployments=fleet.deployments | {"d2": shared}))
    assert [hot(draft) for draft in plan.nodes.values()] == [[SMALL], [SMALL]]


def test_the_version_before_stays_while_another_node_serves_the_present_one():
    nodes = {"gru-1": host(holds={OTHER: Hold.HOT}), "gru-2": host(holds=HELD)}
    plan = plan_replicas(rollout(nodes, pins=frozenset(nodes), phase="leaving"))
    assert [hot(draft) for draft in plan.nodes.values()] == [[OTHER], [SMALL]]


def test_the_version_before_makes_room_at_once_where_it_is_alone():
    plan = plan_replicas(
        rollout({"gru-1": host(holds=HELD)}, pins=frozenset({"gru-1"}), phase="leaving")
    )
    assert hot(plan.nodes["gru-1"]) == [OTHER]


def test_the_next_version_of_what_is_not_pinned_is_made_ready_where_the_present_one_is():
    nodes = {"gru-1": host(holds=HELD), "iad-1": host("IAD", holds=HELD)}
    plan = plan_replicas(rollout(nodes))
    assert sorted(hot(draft)[0] for draft in plan.nodes.values()) == [OTHER, SMALL]


def test_a_pin_of_an_operator_beats_demand():
    rules = PlanRules(pins=(Rule(OTHER, pop_id="GRU", by="operator/ana"),))
    demand = {("GRU", "d1"): 500.0}
    plan = plan_replicas(
        planned({"gru-1": host(holds=HELD)}, SMALL, OTHER, rules=rules, demand=demand)
    )
    assert hot(plan.nodes["gru-1"]) == [OTHER]
    assert "operator/ana" in plan.nodes["gru-1"].models[OTHER].why


def test_a_prohibition_beats_the_pin_of_a_deployment_and_says_so():
    rules = PlanRules(forbids=(Rule(SMALL, node_id="gru-1"),))
    fleet = planned({"gru-1": host()}, SMALL, placements={"d1": ("gru-1",)}, rules=rules)
    plan = plan_replicas(fleet)
    assert plan.nodes["gru-1"].models == {}
    assert "forbidden" in plan.unplaced[0].reason


def test_a_second_model_that_swaps_waits_on_disk_and_one_that_does_not_is_left_out():
    for model, hold in ((TWIN, Hold.DISK), (OTHER, None)):
        places = {"d1": ("gru-1",), "d2": ("gru-1",)}
        fleet = planned({"gru-1": host(holds=HELD)}, SMALL, model, placements=places)
        plan = plan_replicas(fleet)
        found = plan.nodes["gru-1"].models.get(model)
        assert (found and found.hold) is hold
        assert [one.deployment for one in plan.unplaced] == ["d2"]


def test_a_pinned_deployment_is_never_outside_its_zones():
    asked = deployment("d1", model=SMALL, zones=("EU",))
    fleet = planned({"gru-1": host()}, deployments={"d1": asked}, placements={"d1": ("gru-1",)})
    plan = plan_replicas(fleet)
    assert plan.nodes["gru-1"].models == {}
    assert "zone" in plan.unplaced[0].reason


def test_the_runtime_of_the_deployment_starts_the_engine():
    asked = replace(deployment("d1", model=SMALL), runtime="acme/rt@1")
    fleet = planned(
        {"gru-1": host()},
        deployments={"d1": asked},
        placements={"d1": ("gru-1",)},
        runtimes={"acme/rt@1": Runtime("acme/rt@1")},
    )
    assert plan_replicas(fleet).nodes["gru-1"].models[SMALL].runtime == "acme/rt@1"
    assert MODELS[SMALL].source is ModelSource.MANAGED


def test_what_is_not_pinned_and_was_switched_to_gets_the_engine_of_the_version_before():
    plan = plan_replicas(rollout({"gru-1": host(holds=HELD)}, phase="leaving"))
    assert hot(plan.nodes["gru-1"]) == [OTHER]
