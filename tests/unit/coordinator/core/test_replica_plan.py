from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.plan_input import ENGINE_KIND_OF, PlanInput, PlanNode
from coordinator.core.planned_rows import RowMaker
from coordinator.core.replica_plan import plan_replicas
from protos.domain.resources import (
    DesiredReplica,
    Hold,
    Model,
    ModelFile,
    ModelSource,
    NodeIntent,
)
from tests.support.fleets import deployment

SMALL, OTHER, FAR = "acme/small@1", "acme/other@1", "acme/far@1"
FILES = (ModelFile("model.safetensors", b"w" * 32, 270),)


def registered(name: str, source: ModelSource = ModelSource.MANAGED) -> Model:
    return Model(name, source, "llama", "xs", 8_192, 270, b"m" * 32)


MODELS = {
    SMALL: registered(SMALL),
    OTHER: registered(OTHER),
    FAR: registered(FAR, ModelSource.EXTERNAL),
}


def host(
    engine_kind: str = "vllm",
    *,
    holds: str | None = None,
    intent: NodeIntent = NodeIntent.ACTIVE,
) -> PlanNode:
    return PlanNode(engine_kind, intent, {holds: Hold.HOT} if holds else {})


def fleet(nodes: dict[str, PlanNode], **wishes: tuple[str, tuple[str, ...]]) -> PlanInput:
    """``wishes`` is deployment -> (model, node ids)."""
    return PlanInput(
        nodes=nodes,
        models=MODELS,
        manifests={SMALL: FILES, OTHER: FILES},
        deployments={name: deployment(name, model=model) for name, (model, _) in wishes.items()},
        placements={name: node_ids for name, (_, node_ids) in wishes.items()},
    )


def held(plan_input: PlanInput) -> dict[str, str | None]:
    """Node -> the model in its engine; these nodes have one engine each."""
    hot = {}
    for node_id, draft in plan_replicas(plan_input).nodes.items():
        names = [name for name, one in draft.models.items() if one.hold is Hold.HOT]
        assert len(names) <= 1
        hot[node_id] = names[0] if names else None
    return hot


def rows(plan_input: PlanInput, node_id: str) -> list[object]:
    draft = plan_replicas(plan_input).nodes[node_id]
    return list(RowMaker().rows(plan_input, draft).values())


def reasons(plan_input: PlanInput) -> dict[tuple[str, str], str]:
    unplaced = plan_replicas(plan_input).unplaced
    return {(one.deployment, one.node_id): one.reason for one in unplaced}


def test_a_model_goes_to_the_node_it_is_pinned_to():
    asked = fleet({"iad-1": host(), "iad-2": host()}, chat=(SMALL, ("iad-1",)))
    assert rows(asked, "iad-1") == [DesiredReplica(SMALL, ModelSource.MANAGED, FILES, 8_192)]
    assert rows(asked, "iad-2") == []
    assert reasons(asked) == {}


def test_an_external_model_goes_to_an_external_engine_without_files():
    nodes = {"iad-1": host("external"), "iad-2": host("vllm")}
    asked = fleet(nodes, far=(FAR, ("iad-1", "iad-2")))
    assert rows(asked, "iad-1") == [DesiredReplica(FAR, ModelSource.EXTERNAL, (), 8_192)]
    assert rows(asked, "iad-2") == []
    assert list(reasons(asked)) == [("far", "iad-2")]


def test_deployments_of_one_model_share_its_replica():
    plan_input = fleet({"iad-1": host()}, a=(SMALL, ("iad-1",)), b=(SMALL, ("iad-1",)))
    assert held(plan_input) == {"iad-1": SMALL}
    assert reasons(plan_input) == {}


def test_an_engine_holds_one_model_and_keeps_what_it_holds():
    wishes = {"a": (SMALL, ("iad-1",)), "b": (OTHER, ("iad-1",))}
    assert held(fleet({"iad-1": host()}, **wishes)) == {"iad-1": SMALL}
    assert held(fleet({"iad-1": host(holds=OTHER)}, **wishes)) == {"iad-1": OTHER}
    assert reasons(fleet({"iad-1": host(holds=OTHER)}, **wishes)) == {
        ("a", "iad-1"): f"its engine holds {OTHER}, and an engine holds one model"
    }


def test_a_model_without_a_deployment_is_dropped():
    assert held(fleet({"iad-1": host(holds=SMALL)})) == {"iad-1": None}
    moved = fleet({"iad-1": host(holds=SMALL)}, b=(OTHER, ("iad-1",)))
    assert held(moved) == {"iad-1": OTHER}


def test_a_node_without_an_engine_gets_no_model():
    plan_input = fleet(
        {"gru-1": host("none"), "gru-2": host("")},
        chat=(SMALL, ("gru-1", "gru-2", "gru-3")),
    )
    assert held(plan_input) == {"gru-1": None, "gru-2": None}
    assert reasons(plan_input) == {
        ("chat", "gru-1"): "the node has no engine",
        ("chat", "gru-2"): "the node has not connected yet",
        ("chat", "gru-3"): "the node has not connected yet",
    }


def test_cordoned_and_draining_nodes_keep_their_model_and_get_no_new_one():
    for intent in (NodeIntent.CORDONED, NodeIntent.DRAINING):
        keeps = fleet({"iad-1": host(holds=SMALL, intent=intent)}, chat=(SMALL, ("iad-1",)))
        assert held(keeps) == {"iad-1": SMALL}
        gets = fleet({"iad-1": host(intent=intent)}, chat=(SMALL, ("iad-1",)))
        assert held(gets) == {"iad-1": None}
        assert str(intent) in reasons(gets)["chat", "iad-1"]


def test_a_retired_node_holds_nothing():
    retired = host(holds=SMALL, intent=NodeIntent.RETIRED)
    assert held(fleet({"iad-1": retired}, chat=(SMALL, ("iad-1",)))) == {"iad-1": None}


def test_a_deployment_of_an_unknown_model_is_unplaced_with_the_reason():
    plan_input = fleet({"iad-1": host()}, chat=("acme/gone@1", ("iad-1",)))
    assert reasons(plan_input) == {("chat", "iad-1"): "its model is not in the registry"}


NODE_IDS = ("a-1", "b-1", "c-1")
inputs = st.builds(
    PlanInput,
    nodes=st.dictionaries(
        st.sampled_from(NODE_IDS),
        st.builds(
            PlanNode,
            st.sampled_from(["vllm", "external", "none", ""]),
            st.sampled_from(list(NodeIntent)),
            st.sampled_from([{}, *({name: Hold.HOT} for name in MODELS)]),
        ),
    ),
    models=st.just(MODELS),
    manifests=st.just({SMALL: FILES}),
    deployments=st.fixed_dictionaries(
        {},
        optional={
            name: st.sampled_from([*MODELS, "acme/gone@1"]).map(
                lambda model, name=name: deployment(name, model=model)
            )
            for name in ("x", "y", "z")
        },
    ),
    placements=st.dictionaries(
        st.sampled_from(["x", "y", "z"]), st.lists(st.sampled_from(NODE_IDS), max_size=4)
    ),
)


@given(inputs)
def test_every_pin_is_placed_or_unplaced_with_a_reason_and_engines_fit(plan_input: PlanInput):
    hot = held(plan_input)
    assert set(hot) == set(plan_input.nodes)
    explained = reasons(plan_input)
    for name, wanted in plan_input.deployments.items():
        for node_id in plan_input.placements.get(name, ()):
            assert (hot.get(node_id) == wanted.model) != ((name, node_id) in explained)
    for node_id, model in hot.items():
        if model is not None:
            assert plan_input.nodes[node_id].engine_kind == ENGINE_KIND_OF[MODELS[model].source]
