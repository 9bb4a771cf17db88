"""Targets for a retiring node's replicas, and cases without a target."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.node_orders import Move
from coordinator.core.plan_input import ENGINE_KIND_OF, PlanInput, PlanNode
from coordinator.core.replica_plan import plan_replicas
from coordinator.core.retirement import Site, plan_moves
from protos.domain.resources import Hold, Model, ModelSource, NodeIntent, Tier
from tests.support.fleets import deployment

SMALL, OTHER, FAR = "acme/small@1", "acme/other@1", "acme/far@1"
MODELS = {
    name: Model(name, source, "llama", "xs", 8_192, 270, b"m" * 32)
    for name, source in (
        (SMALL, ModelSource.MANAGED),
        (OTHER, ModelSource.MANAGED),
        (FAR, ModelSource.EXTERNAL),
    )
}


def host(kind: str = "vllm", holds: str | None = None, intent: NodeIntent = NodeIntent.ACTIVE):
    return PlanNode(kind, intent, {holds: Hold.HOT} if holds else {})


def fleet(nodes: dict[str, PlanNode], zones: tuple[str, ...] = (), **pins):
    """``pins`` is deployment -> (model, node ids)."""
    return PlanInput(
        nodes=nodes,
        models=MODELS,
        manifests={},
        deployments={
            name: deployment(name, model=model, zones=zones) for name, (model, _) in pins.items()
        },
        placements={name: node_ids for name, (_, node_ids) in pins.items()},
    )


def sites(*node_ids: str, **changes: Site) -> dict[str, Site]:
    """A node's POP is its name's first part; one tier and zone unless given."""
    plain = {one: Site(one.split("-")[0], Tier.EDGE, "US", healthy=True) for one in node_ids}
    return plain | {name.replace("_", "-"): site for name, site in changes.items()}


def moved(plan_input: PlanInput, where: dict[str, Site], node_id: str = "a-1", kept=()):
    return {move.deployment: move.node_id for move in plan_moves(plan_input, where, node_id, kept)}


HERE = host(holds=SMALL)


def test_a_replica_goes_to_a_free_engine_of_its_pop_before_any_other():
    nodes = {"a-1": HERE, "b-1": host(), "a-2": host()}
    assert moved(fleet(nodes, chat=(SMALL, ("a-1",))), sites(*nodes)) == {"chat": "a-2"}


def test_the_same_tier_comes_before_another_even_where_it_is_served_already():
    nodes = {"a-1": HERE, "b-1": host(), "c-1": host(holds=SMALL)}
    where = sites(*nodes, b_1=Site("b", Tier.CENTRAL, "US", healthy=True))
    assert moved(fleet(nodes, chat=(SMALL, ("a-1",))), where) == {"chat": "c-1"}


def test_deployments_of_one_model_move_together_and_two_models_never_share():
    nodes = {"a-1": HERE, "a-2": host(), "a-3": host()}
    pins = {"chat": (SMALL, ("a-1",)), "code": (SMALL, ("a-1",)), "x": (OTHER, ("a-1",))}
    assert moved(fleet(nodes, **pins), sites(*nodes)) == {"chat": "a-2", "code": "a-2", "x": "a-3"}


@pytest.mark.parametrize(
    ("target", "site"),
    [
        (host(intent=NodeIntent.CORDONED), None),
        (host(intent=NodeIntent.DRAINING), None),
        (host(holds=OTHER), None),
        (host("none"), None),
        (host("external"), None),
        (host(""), None),
        (host(), Site("a", Tier.EDGE, "US", healthy=False)),
        (host(), Site("a", Tier.EDGE, "BR", healthy=True)),
    ],
)
def test_nothing_moves_to_a_node_that_cannot_take_it_and_the_reason_is_given(target, site):
    nodes = {"a-1": HERE, "a-2": target}
    where = sites(*nodes) | ({"a-2": site} if site else {})
    plan_input = fleet(nodes, ("US",), chat=(SMALL, ("a-1",)))
    (move,) = plan_moves(plan_input, where, "a-1", ())
    assert move.node_id == ""
    assert move.reason == "no other active vllm engine in US is free or holds acme/small@1"


def test_a_node_that_another_deployment_is_pinned_to_is_not_free():
    nodes = {"a-1": HERE, "a-2": host()}
    pins = {"chat": (SMALL, ("a-1",)), "code": (OTHER, ("a-2",))}
    assert moved(fleet(nodes, **pins), sites(*nodes)) == {"chat": ""}


def test_an_external_model_moves_only_where_an_operator_has_pinned_it():
    nodes = {"a-1": host("external", FAR), "a-2": host("external"), "b-1": host("external", FAR)}
    far = fleet(nodes, chat=(FAR, ("a-1", "b-1")))
    assert moved(far, sites(*nodes)) == {"chat": "b-1"}
    alone = {"a-1": host("external", FAR), "a-2": host("external")}
    assert moved(fleet(alone, chat=(FAR, ("a-1",))), sites(*alone)) == {"chat": ""}


def test_a_move_is_kept_when_a_nearer_node_appears_and_replanned_when_its_target_goes():
    nodes = {"a-1": HERE, "b-1": host(), "a-2": host()}
    pins = fleet(nodes, chat=(SMALL, ("a-1",)))
    kept = (Move("chat", SMALL, "b-1"),)
    assert moved(pins, sites(*nodes), kept=kept) == {"chat": "b-1"}
    gone = sites(*nodes, b_1=Site("b", Tier.EDGE, "US", healthy=False))
    assert moved(pins, gone, kept=kept) == {"chat": "a-2"}


node_ids = [f"{pop}-{number}" for pop in "ab" for number in (1, 2)]
hosts = st.builds(
    PlanNode,
    st.sampled_from(["vllm", "external", "none"]),
    st.sampled_from(list(NodeIntent)),
    st.sampled_from([{}, *({name: Hold.HOT} for name in sorted(MODELS))]),
)
site_facts = st.builds(
    Site, st.sampled_from("ab"), st.sampled_from(Tier), st.sampled_from(["US", "BR"]), st.booleans()
)
pin_facts = st.dictionaries(
    st.sampled_from(["chat", "code", "mail"]),
    st.tuples(
        st.sampled_from(sorted(MODELS)),
        st.lists(st.sampled_from(node_ids), unique=True).map(tuple),
    ),
)


@given(
    st.fixed_dictionaries(dict.fromkeys(node_ids, hosts)),
    st.fixed_dictionaries(dict.fromkeys(node_ids, site_facts)),
    pin_facts,
    st.sampled_from([(), ("US",)]),
)
def test_the_placement_plan_accepts_the_moves(nodes, where, pins, zones):
    plan_input = fleet(nodes, zones, **pins)
    moves = plan_moves(plan_input, where, "a-1", ())
    assert moves == plan_moves(plan_input, where, "a-1", moves), "a plan once made stands"
    assert {one.deployment for one in moves} == {
        name
        for name, (model, pinned) in pins.items()
        if "a-1" in pinned
        or (not pinned and model in nodes["a-1"].hot and model != FAR)  # the plan put it there
    }
    models_at: dict[str, set[str]] = {}
    for move in moves:
        assert bool(move.node_id) != bool(move.reason)
        if not move.node_id:
            continue
        node, site = nodes[move.node_id], where[move.node_id]
        assert move.node_id != "a-1"
        planned_there = not pins[move.deployment][1]
        assert node.intent is NodeIntent.ACTIVE or (planned_there and node.counts)
        assert site.healthy
        assert not zones or site.zone in zones
        assert node.engine_kind == ENGINE_KIND_OF[MODELS[move.model].source]
        assert node.hot in ((), (move.model,))
        models_at.setdefault(move.node_id, set()).add(move.model)
    assert all(len(models) == 1 for models in models_at.values())
    planned = plan_replicas(plan_input).nodes
    for move in moves:
        if move.node_id:
            hot = [
                name for name, one in planned[move.node_id].models.items() if one.hold is Hold.HOT
            ]
            assert hot in ([], [move.model]) or nodes[move.node_id].hot == (move.model,)
