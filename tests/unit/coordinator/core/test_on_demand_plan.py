"""The long tail has one home, and elsewhere a request may load it."""

from __future__ import annotations

from coordinator.core.plan_draft import MAX_MODELS
from coordinator.core.replica_plan import plan_replicas
from protos.domain.resources import Hold
from tests.support.fleets import deployment
from tests.support.plans import (
    BIG,
    MODELS,
    OTHER,
    SMALL,
    TWIN,
    host,
    hot,
    planned,
    registered,
)

THREE = {"fra-1": host("FRA"), "gru-1": host(), "iad-1": host("IAD")}


def test_the_home_is_regional_then_central_then_any():
    assert hot(plan_replicas(planned(THREE, SMALL)).nodes["fra-1"]) == [SMALL]
    less = {one: node for one, node in THREE.items() if one != "fra-1"}
    assert hot(plan_replicas(planned(less, SMALL)).nodes["iad-1"]) == [SMALL]
    edge = {"gru-1": host()}
    assert hot(plan_replicas(planned(edge, SMALL)).nodes["gru-1"]) == [SMALL]


def test_a_home_stays_where_it_is():
    nodes = THREE | {"gru-1": host(holds={SMALL: Hold.HOT})}
    plan = plan_replicas(planned(nodes, SMALL))
    assert [node for node, draft in plan.nodes.items() if hot(draft)] == ["gru-1"]


def test_residency_chooses_the_home():
    asked = {"d1": deployment("d1", model=SMALL, zones=("BR",))}
    plan = plan_replicas(planned(THREE, deployments=asked))
    assert {node for node, draft in plan.nodes.items() if draft.models} == {"gru-1"}


def test_nodes_with_a_free_engine_or_the_swap_key_may_load_it():
    demand = {("GRU", "d1"): 9.0}
    plan = plan_replicas(planned({"gru-1": host()}, SMALL, TWIN, OTHER, demand=demand))
    holds = {name: one.hold for name, one in plan.nodes["gru-1"].models.items()}
    assert holds == {SMALL: Hold.HOT, TWIN: Hold.DISK}, "another engine is needed for the third"
    assert [(one.deployment, one.reason) for one in plan.unplaced] == [
        ("d3", "every engine that it fits holds something else")
    ]


def test_what_swaps_and_is_asked_for_waits_on_disk():
    demand = {("GRU", "d1"): 90.0, ("GRU", "d2"): 2.0}
    nodes = THREE | {"gru-1": host(holds={SMALL: Hold.HOT})}
    plan = plan_replicas(planned(nodes, SMALL, TWIN, demand=demand))
    assert plan.nodes["gru-1"].models[TWIN].hold is Hold.DISK


def test_a_model_too_large_for_every_node_is_unplaced_with_the_numbers():
    (one,) = plan_replicas(planned(THREE, BIG)).unplaced
    assert "16.00 GB" in one.reason
    assert "8.00 GB" in one.reason


def test_a_zone_without_nodes_is_named():
    asked = {"d1": deployment("d1", model=SMALL, zones=("JP",))}
    (one,) = plan_replicas(planned(THREE, deployments=asked)).unplaced
    assert one.reason == "no node with an engine is in JP"


def test_a_node_is_told_of_a_bounded_number_of_models():
    many = {f"acme/m{number:03}@1": registered(f"acme/m{number:03}@1") for number in range(200)}
    nodes = {"gru-1": host(), "fra-1": host("FRA")}
    plan = plan_replicas(planned(nodes, *many, models=MODELS | many))
    assert all(len(draft.models) <= MAX_MODELS for draft in plan.nodes.values())
