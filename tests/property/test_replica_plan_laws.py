"""Laws of the replica plan, for any small fleet."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.plan_draft import MAX_ADAPTERS, MAX_MODELS
from coordinator.core.plan_input import (
    PlanInput,
    PlanNode,
    PlanRules,
    Rule,
    adapter_misfit,
    is_allowed,
    misfit,
)
from coordinator.core.planned_rows import moves_of
from coordinator.core.replica_plan import plan_replicas
from protos.domain.hardware import NodeHardware
from protos.domain.resources import Adapter, Hold, NodeIntent, Tier
from tests.support.fleets import deployment
from tests.support.plans import FAR, GB, MODELS, OTHER, SMALL, TWIN

POPS = {"GRU": ("BR", Tier.EDGE), "FRA": ("EU", Tier.REGIONAL), "IAD": ("US", Tier.CENTRAL)}
NODE_IDS = ("fra-1", "fra-2", "gru-1", "gru-2", "iad-1")
NAMES = ("d1", "d2", "d3", "d4")
OWNED = replace(MODELS[OTHER], name="globex/own@1", account_id="globex")
ALL_MODELS = MODELS | {OWNED.name: OWNED}
ADAPTERS = {
    f"acme/l{number}@1": Adapter(f"acme/l{number}@1", SMALL, 8 * number, 1_000, b"")
    for number in (1, 2, 5)
}

holds = st.dictionaries(
    st.sampled_from([SMALL, TWIN, OTHER, f"{SMALL}+acme/l1@1"]),
    st.sampled_from(list(Hold)),
    max_size=3,
)
hardware = st.builds(
    NodeHardware,
    st.just("cuda"),
    st.sampled_from([0, 8 * GB, 40 * GB]),
    st.just("0.10.2"),
    st.integers(0, 2),
    st.sampled_from([8, 32]),
    st.integers(0, 3),
)


@st.composite
def nodes(draw) -> dict[str, PlanNode]:
    found = {}
    for node_id in draw(st.lists(st.sampled_from(NODE_IDS), unique=True)):
        pop_id = node_id[:3].upper()
        zone, tier = POPS[pop_id]
        found[node_id] = PlanNode(
            draw(st.sampled_from(["vllm", "vllm", "vllm", "external", "none", ""])),
            draw(st.sampled_from([NodeIntent.ACTIVE] * 4 + list(NodeIntent))),
            draw(holds),
            pop_id,
            tier,
            zone,
            alive=draw(st.sampled_from([True, True, True, False])),
            retiring=draw(st.sampled_from([False, False, False, True])),
            hardware=draw(hardware),
            disk_quota_bytes=draw(st.sampled_from([0, GB, 100 * GB])),
            tokens_per_s=draw(st.sampled_from([0.0, 400.0])),
        )
    return found


@st.composite
def one_deployment(draw, name: str):
    made = deployment(
        name,
        model=draw(st.sampled_from([*ALL_MODELS, "acme/gone@1"])),
        adapter=draw(st.sampled_from(["", "", *ADAPTERS])),
        zones=draw(st.sampled_from([(), (), ("BR",), ("EU", "US")])),
    )
    pins = draw(st.none() | st.frozensets(st.sampled_from(NODE_IDS), max_size=3))
    return replace(made, pins=pins)


@st.composite
def fleets(draw) -> PlanInput:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    rule = st.builds(
        Rule, st.sampled_from([*MODELS, *ADAPTERS]), st.sampled_from(list(POPS)), st.just("")
    )
    changing = draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    split = draw(st.integers(0, len(changing)))
    return PlanInput(
        nodes=draw(nodes()),
        models=ALL_MODELS,
        manifests={},
        deployments={name: draw(one_deployment(name)) for name in names},
        placements={},
        adapters=ADAPTERS,
        preparing={name: draw(one_deployment(name)) for name in changing[:split]},
        leaving={name: draw(one_deployment(name)) for name in changing[split:]},
        demand=draw(
            st.dictionaries(
                st.tuples(st.sampled_from(list(POPS)), st.sampled_from(NAMES)),
                st.sampled_from([0.1, 0.6, 3.0, 40.0, 900.0]),
            )
        ),
        rules=PlanRules(
            tuple(draw(st.lists(rule, max_size=2))), tuple(draw(st.lists(rule, max_size=2)))
        ),
    )


def carried_out(fleet: PlanInput) -> PlanInput:
    plan = plan_replicas(fleet)
    return replace(
        fleet,
        nodes={
            node_id: replace(node, holds=plan.nodes[node_id].holds())
            for node_id, node in fleet.nodes.items()
        },
    )


def said(fleet: PlanInput):
    plan = plan_replicas(fleet)
    return (
        {one: (draft.models, draft.adapters) for one, draft in plan.nodes.items()},
        plan.unplaced,
    )


@given(fleets())
def test_what_is_planned_fits_engines_memory_and_bounds(fleet: PlanInput):
    for draft in plan_replicas(fleet).nodes.values():
        hot = [name for name, one in draft.models.items() if one.hold is Hold.HOT]
        assert len(hot) <= draft.node.hardware.engines
        assert len(draft.models) <= MAX_MODELS
        assert len(draft.adapters) <= MAX_ADAPTERS
        for name in draft.models:
            assert misfit(draft.node.engine_kind, draft.node.hardware, ALL_MODELS[name]) == ""
        hot_adapters = 0
        for name, planned in draft.adapters.items():
            assert ADAPTERS[name].model in draft.models
            assert adapter_misfit(draft.node.hardware, ADAPTERS[name]) == ""
            hot_adapters += planned.hold is Hold.HOT
            if planned.hold is Hold.HOT:
                assert draft.models[ADAPTERS[name].model].hold is Hold.HOT
        assert hot_adapters <= draft.node.hardware.max_adapters
        quota_bytes = draft.node.disk_quota_bytes
        if quota_bytes and hot:
            assert sum(ALL_MODELS[name].weights_bytes for name in hot) <= quota_bytes


@given(fleets(), st.randoms(use_true_random=False))
def test_the_same_fleet_in_another_order_has_the_same_plan(fleet: PlanInput, random):
    def shuffled(mapping):
        items = list(mapping.items())
        random.shuffle(items)
        return dict(items)

    names = ("nodes", "models", "deployments", "adapters", "demand", "preparing", "leaving")
    again = replace(fleet, **{name: shuffled(getattr(fleet, name)) for name in names})
    assert said(again) == said(fleet)


@given(fleets())
def test_nothing_is_outside_pins_zones_prohibitions_and_ownership(fleet: PlanInput):
    versions = [
        *fleet.deployments.values(),
        *fleet.preparing.values(),
        *fleet.leaving.values(),
    ]
    for node_id, draft in plan_replicas(fleet).nodes.items():
        node = draft.node
        assert node.intent is not NodeIntent.RETIRED or not draft.models
        for name in (*draft.models, *draft.adapters):
            allowed = [
                one
                for one in versions
                if name in (one.model, one.adapter)
                and is_allowed(one, one.pins, node_id, node.zone)
            ]
            assert allowed, name
            assert not any(
                rule.name == name and rule.covers(node_id, node.pop_id)
                for rule in fleet.rules.forbids
            )
        assert OWNED.name not in draft.models, "every deployment here is of another account"
        assert FAR not in draft.models or any(
            one.model == FAR and one.pins is not None and node_id in one.pins for one in versions
        )


@given(fleets())
def test_constant_demand_moves_nothing_after_a_few_plans(fleet: PlanInput):
    """Versions that change places settle in steps; after them, no oscillation."""
    for _ in range(4):
        fleet = carried_out(fleet)
    assert moves_of(fleet, plan_replicas(fleet)) == []


@given(fleets())
def test_every_move_has_a_reason(fleet: PlanInput):
    for move in moves_of(fleet, plan_replicas(fleet)):
        assert move.why
        assert move.before is not move.after


@given(fleets())
def test_a_node_that_gets_nothing_new_gets_nothing_new(fleet: PlanInput):
    for draft in plan_replicas(fleet).nodes.values():
        if draft.node.intent is not NodeIntent.ACTIVE:
            assert set(draft.models) <= set(draft.node.holds)


@given(fleets())
def test_a_model_that_may_be_served_somewhere_is_held_or_said_to_be_unplaced(fleet: PlanInput):
    plan = plan_replicas(fleet)
    unplaced = {one.deployment for one in plan.unplaced}
    for name, wanted in fleet.deployments.items():
        if wanted.pins is None and wanted.model != FAR and name not in unplaced:
            assert any(wanted.model in draft.models for draft in plan.nodes.values())
