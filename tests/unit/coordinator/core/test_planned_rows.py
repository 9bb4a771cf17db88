"""Rows follow from a plan; what would move is said in words."""

from __future__ import annotations

from dataclasses import replace

from coordinator.core.plan_input import PlanRules, Rule
from coordinator.core.planned_rows import RowMaker, key_of_row, moves_of, still_allowed
from coordinator.core.replica_plan import plan_replicas
from protos.domain.resources import (
    Adapter,
    DesiredAdapter,
    Hold,
    ModelFile,
    NodeIntent,
    Runtime,
)
from tests.support.fleets import deployment
from tests.support.plans import OTHER, SMALL, host, planned

LORA = Adapter("acme/lora@1", SMALL, 8, 9, b"")
FILES = (ModelFile("model.safetensors", b"w" * 32, 270),)


def fleet(**fields):
    asked = replace(deployment("d1", model=SMALL, adapter=LORA.name), runtime="acme/rt@1")
    given = {
        "deployments": {"d1": asked},
        "adapters": {LORA.name: LORA},
        "runtimes": {"acme/rt@1": Runtime("acme/rt@1", args=("--seed=1",))},
        "manifests": {SMALL: FILES, LORA.name: FILES},
    }
    return planned(**({"nodes": {"gru-1": host()}} | given | fields))


def rows(plan_input, maker=None):
    draft = plan_replicas(plan_input).nodes["gru-1"]
    return (maker or RowMaker()).rows(plan_input, draft)


def test_rows_carry_files_hold_runtime_and_swap_key():
    found = rows(fleet())
    base, lora = found[SMALL], found[f"{SMALL}+{LORA.name}"]
    assert (base.hold, base.files, base.swap_key) == (Hold.HOT, FILES, b"k" * 32)
    assert base.runtime.args == ("--seed=1",)
    assert lora == DesiredAdapter(LORA.name, SMALL, 8, FILES, Hold.ON_DEMAND)
    assert {key_of_row(row) for row in found.values()} == set(found)


def test_equal_rows_are_one_object_until_what_they_are_made_of_changes():
    maker = RowMaker()
    first = rows(fleet(), maker)
    assert rows(fleet(), maker)[SMALL] is first[SMALL]
    assert rows(fleet(manifests={}), maker)[SMALL] is not first[SMALL]


def test_moves_say_what_changes_and_why():
    plan_input = fleet(nodes={"gru-1": host(holds={OTHER: Hold.HOT})})
    moves = {one.name: one for one in moves_of(plan_input, plan_replicas(plan_input))}
    assert (moves[OTHER].before, moves[OTHER].after) == (Hold.HOT, None)
    assert moves[OTHER].why == "no deployment names it any more"
    assert moves[SMALL].after is Hold.HOT
    assert "home" in moves[SMALL].why


def test_what_is_dropped_has_its_reason():
    held = {SMALL: Hold.HOT}

    def why(**fields) -> str:
        node = host(holds=held, **fields.pop("node", {}))
        plan_input = planned({"gru-1": node, "iad-1": host("IAD")}, SMALL, **fields)
        moves = moves_of(plan_input, plan_replicas(plan_input))
        return next(one.why for one in moves if one.node_id == "gru-1" and one.after is None)

    assert why(node={"intent": NodeIntent.RETIRED}) == "the node is retired"
    rules = PlanRules(forbids=(Rule(SMALL, pop_id="GRU"),))
    assert why(rules=rules) == "an operator has forbidden it there"
    moved = {"d1": deployment("d1", model=SMALL, zones=("US",))}
    assert why(deployments=moved) == "no deployment that names it may be served there"


def test_a_plan_that_is_carried_out_moves_nothing():
    plan_input = fleet()
    plan = plan_replicas(plan_input)
    done = {"gru-1": replace(plan_input.nodes["gru-1"], holds=plan.nodes["gru-1"].holds())}
    again = replace(plan_input, nodes=done)
    assert moves_of(again, plan_replicas(again)) == []


def test_a_frozen_node_keeps_what_a_deployment_still_allows():
    plan_input = fleet()
    held = rows(plan_input)
    assert still_allowed(plan_input, "gru-1", held) == held
    without = replace(plan_input, deployments={"d1": deployment("d1", model=SMALL)})
    assert list(still_allowed(without, "gru-1", held)) == [SMALL]
    forbidden = replace(plan_input, rules=PlanRules(forbids=(Rule(SMALL, node_id="gru-1"),)))
    assert still_allowed(forbidden, "gru-1", held) == {}
    retired = replace(plan_input, nodes={"gru-1": host(intent=NodeIntent.RETIRED)})
    assert still_allowed(retired, "gru-1", held) == {}
