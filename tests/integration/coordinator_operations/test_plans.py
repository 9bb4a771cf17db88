"""The replica plan as operators see and rule it, over the real store and supervisor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from protos.domain.errors import Conflict, InvalidRequest, NotFound
from protos.domain.resources import Deployment, Hold, ReplicaState, Residency, SlaTier
from tests.support.deployed_fleet import ANA, BASE, NEXT, DeployedFleet, deployed_fleet, replica

if TYPE_CHECKING:
    from pathlib import Path

CHAT = Deployment("acme/chat", "acme", BASE.name, "", 80, SlaTier.REALTIME, (), strict=False)
CODE = replace(CHAT, name="acme/code", model=NEXT.name)


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[DeployedFleet]:
    async with deployed_fleet(tmp_path) as fleet:
        yield fleet


def hot(fleet: DeployedFleet) -> dict[str, list[str]]:
    return {
        node_id: [key for key, hold in fleet.holds(node_id).items() if hold is Hold.HOT]
        for node_id in ("fra-1", "gru-1", "iad-1")
    }


async def asked(fleet: DeployedFleet, node_id: str, *told: tuple[str, float]) -> None:
    """Have clients ask for so long that the plan believes it."""
    for _ in range(100):
        fleet.supervisor.demand(node_id, told)
        await fleet.pass_ms(10_000.0)


async def test_what_nobody_asks_for_has_one_regional_home(fleet: DeployedFleet):
    await fleet.ops.deploys.create(ANA, CHAT, [])
    await fleet.pass_ms()
    assert hot(fleet) == {"fra-1": [BASE.name], "gru-1": [], "iad-1": []}
    assert fleet.holds("gru-1") == {BASE.name: Hold.ON_DEMAND}, "a request may load it"


async def test_a_model_becomes_hot_where_it_is_asked_for(fleet: DeployedFleet):
    await fleet.ops.deploys.create(ANA, CHAT, [])
    await asked(fleet, "gru-1", ("acme/chat", 12.0))
    assert hot(fleet)["gru-1"] == [BASE.name]
    shown = await fleet.ops.plans.show(ANA)
    assert shown.pending == [], "an unfrozen plan is carried out"
    (move,) = [
        move for _, move in shown.recent if move.node_id == "gru-1" and move.after is Hold.HOT
    ]
    assert "requests per minute in GRU" in move.why


async def test_demand_for_a_deployment_that_does_not_exist_moves_nothing(fleet: DeployedFleet):
    await fleet.ops.deploys.create(ANA, CHAT, [])
    await asked(fleet, "gru-1", ("globex/none", 1e9), ("acme/chat", float("nan")))
    assert hot(fleet)["gru-1"] == []


async def test_a_frozen_plan_says_what_would_move_and_apply_moves_it_once(fleet: DeployedFleet):
    await fleet.ops.deploys.create(ANA, CHAT, [])
    await fleet.pass_ms()
    await fleet.ops.plans.freeze(ANA, ["GRU"])
    await asked(fleet, "gru-1", ("acme/chat", 12.0))
    assert hot(fleet)["gru-1"] == []
    shown = await fleet.ops.plans.show(ANA)
    (move,) = shown.pending
    assert (move.node_id, move.before, move.after) == ("gru-1", Hold.ON_DEMAND, Hold.HOT)
    assert shown.fleet.rules.frozen == {"GRU": "operator/ana"}
    await fleet.ops.plans.apply(ANA, [])
    await fleet.pass_ms()
    assert hot(fleet)["gru-1"] == [BASE.name]
    assert "GRU" in fleet.store.plan_rules().frozen, "it stays frozen"
    await fleet.ops.plans.unfreeze(ANA, [])
    assert fleet.store.plan_rules().frozen == {}


async def test_apply_is_refused_where_the_plan_is_not_frozen(fleet: DeployedFleet):
    with pytest.raises(Conflict, match="not frozen"):
        await fleet.ops.plans.apply(ANA, [])
    await fleet.ops.plans.freeze(ANA, ["GRU"])
    with pytest.raises(Conflict, match="not frozen at IAD"):
        await fleet.ops.plans.apply(ANA, ["IAD"])


async def test_a_deploy_at_a_frozen_pop_waits_and_says_so(fleet: DeployedFleet):
    await fleet.ops.plans.freeze(ANA, [])
    await fleet.ops.deploys.create(ANA, replace(CHAT, name="acme/support"), [])
    await fleet.pass_ms()
    (line,) = (await fleet.show()).waits_for
    assert "the plan is frozen at FRA by operator/ana" in line


async def test_a_frozen_node_drops_what_no_deployment_may_have_there(fleet: DeployedFleet):
    await fleet.ops.deploys.create(ANA, CHAT, [])
    await fleet.pass_ms()
    await fleet.ops.plans.freeze(ANA, [])
    await fleet.ops.deployments.remove(ANA, "acme/chat")
    await fleet.pass_ms()
    assert fleet.holds("fra-1") == {}


async def test_a_pin_holds_a_model_hot_and_a_prohibition_takes_it_away(fleet: DeployedFleet):
    await fleet.ops.deploys.create(ANA, CHAT, [])
    await fleet.ops.plans.pin(ANA, BASE.name, "GRU", "")
    await fleet.pass_ms()
    assert hot(fleet)["gru-1"] == [BASE.name]
    await fleet.ops.plans.forbid(ANA, BASE.name, "GRU", "")
    await fleet.pass_ms()
    assert fleet.holds("gru-1") == {}
    await fleet.ops.plans.release(ANA, BASE.name, "GRU", "")
    await fleet.pass_ms()
    assert fleet.holds("gru-1") == {BASE.name: Hold.ON_DEMAND}


@pytest.mark.parametrize(
    ("name", "pop", "node", "kind"),
    [
        (BASE.name, "", "", InvalidRequest),
        (BASE.name, "GRU", "gru-1", InvalidRequest),
        (BASE.name, "XXX", "", NotFound),
        (BASE.name, "", "xxx-1", NotFound),
        ("acme/none@1", "GRU", "", NotFound),
        ("../etc", "GRU", "", InvalidRequest),
    ],
)
async def test_a_rule_about_nothing_is_refused(fleet: DeployedFleet, name, pop, node, kind):
    for act in (fleet.ops.plans.pin, fleet.ops.plans.forbid):
        with pytest.raises(kind):
            await act(ANA, name, pop, node)
    with pytest.raises(NotFound):
        await fleet.ops.plans.release(ANA, name, pop, node)


async def test_a_node_that_drains_keeps_nothing_that_only_it_had(fleet: DeployedFleet):
    await fleet.ops.deploys.create(ANA, CHAT, [])
    await fleet.pass_ms()
    assert hot(fleet)["fra-1"] == [BASE.name]
    await fleet.ops.nodes.drain(ANA, "fra-1", "disks")
    await fleet.pass_ms()
    assert hot(fleet)["iad-1"] == [BASE.name], "central is next for the long tail"


async def test_a_retirement_waits_until_what_the_plan_put_there_is_elsewhere(fleet: DeployedFleet):
    await fleet.ops.deploys.create(ANA, CHAT, [])
    await fleet.pass_ms()
    await fleet.obey("fra-1")
    await fleet.ops.nodes.retire(ANA, "fra-1", "old")
    await fleet.pass_ms(4_000.0)
    order = fleet.store.node_orders()["fra-1"]
    assert (order.phase, order.moves[0].node_id) == ("moving", "iad-1")
    assert fleet.store.placements().get("acme/chat", ()) == (), "it is pinned nowhere"
    await fleet.obey("iad-1")
    for _ in range(3):
        await fleet.pass_ms(4_000.0)
    assert fleet.store.node_orders()["fra-1"].phase == "retired"
    assert fleet.holds("fra-1") == {}


async def test_cold_replicas_and_adapters_become_rows_only_if_ordered(fleet: DeployedFleet):
    await fleet.ops.deploys.create(ANA, CHAT, [])
    await fleet.pass_ms()
    cold = replica(BASE.name, ReplicaState.COLD, residency=Residency.ORIGIN)
    claimed = replica(BASE.name, ReplicaState.READY, adapter="acme/lora@1")
    await fleet.report("gru-1", cold, claimed)
    view = fleet.store.view()
    row = view.replicas[BASE.name]["gru-1"]
    assert (row.state, row.residency) == (ReplicaState.COLD, Residency.ORIGIN)
    assert view.adapter_replicas == {}
    await fleet.pass_ms(6_000.0)
    (claim,) = fleet.fleet.memory.claims.of("gru-1")
    assert claim.detail == f"claims {BASE.name}+acme/lora@1 that it was not ordered"


async def test_rows_that_did_not_change_are_not_written_again(fleet: DeployedFleet):
    from protos.domain.resources import ResourceType

    await fleet.ops.deploys.create(ANA, CHAT, [])
    await fleet.pass_ms()
    before = {one: fleet.store.table(ResourceType.DESIRED, one).at for one in hot(fleet)}
    fleet.fleet.plan.look_again()
    await fleet.pass_ms()
    await fleet.ops.deploys.create(ANA, replace(CODE, residency_zones=("BR",)), ["gru-1"])
    await fleet.pass_ms()
    after = {one: fleet.store.table(ResourceType.DESIRED, one).at for one in hot(fleet)}
    assert {one for one in before if before[one] != after[one]} == {"gru-1"}
