"""Changes of deployments: held before the switch, followed after it, refused, given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from coordinator.core.rollout import FOLLOWED_GRACE_MS, GRACE_MS
from coordinator.operations.actor import Actor
from protos.domain.errors import Conflict, InvalidRequest, NotFound
from protos.domain.holding import may_hold
from protos.domain.resources import Deployment, NextVersion, NodeHealth, ReplicaState, SlaTier
from tests.support.deployed_fleet import (
    ANA,
    BASE,
    NEXT,
    NODES,
    DeployedFleet,
    deployed_fleet,
    replica,
)

if TYPE_CHECKING:
    from pathlib import Path

NAME = "acme/support"
WANTED = Deployment(NAME, "acme", BASE.name, "", 80, SlaTier.REALTIME, (), strict=False)
CHANGED = replace(WANTED, model=NEXT.name)


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[DeployedFleet]:
    """A deployment of BASE, served from gru-1."""
    async with deployed_fleet(tmp_path) as fleet:
        await fleet.ops.deploys.create(ANA, WANTED, ["gru-1"])
        await fleet.pass_ms()
        await fleet.obey()
        yield fleet


def row(fleet: DeployedFleet) -> Deployment:
    return fleet.store.view().deployments[NAME]


def holders(fleet: DeployedFleet, name: str) -> set[str]:
    return {node_id for node_id in NODES if may_hold(fleet.store.view(), node_id, name)}


async def begin(fleet: DeployedFleet, **options: int) -> None:
    await fleet.ops.deploys.update(ANA, CHANGED, ["gru-1"], **options)
    await fleet.pass_ms()


async def switched(fleet: DeployedFleet) -> None:
    await begin(fleet)
    await fleet.obey("gru-1")
    assert row(fleet).model == NEXT.name


async def test_the_next_version_may_be_held_from_the_beginning_of_an_update(fleet: DeployedFleet):
    assert holders(fleet, NEXT.name) == set()
    await begin(fleet)
    assert row(fleet).next == NextVersion(NEXT.name, "", (), frozenset({"gru-1"}))
    assert row(fleet).model == BASE.name
    assert holders(fleet, NEXT.name) == {"gru-1"}
    await fleet.obey("gru-1")
    assert (row(fleet).model, row(fleet).next) == (NEXT.name, None)
    assert holders(fleet, BASE.name) == set()


async def test_the_next_version_goes_by_its_own_nodes_and_zones(fleet: DeployedFleet):
    changed = replace(CHANGED, residency_zones=("EU",))
    await fleet.ops.deploys.update(ANA, changed, None)
    assert holders(fleet, NEXT.name) == {"fra-1"}
    assert holders(fleet, BASE.name) == {"gru-1"}


async def test_the_row_names_no_next_version_once_it_is_withdrawn_or_replaced(
    fleet: DeployedFleet,
):
    await begin(fleet)
    await fleet.ops.deploys.rollback(ANA, NAME)
    assert row(fleet).next is None
    await begin(fleet)
    await fleet.ops.deployments.apply(ANA, replace(WANTED, ttft_budget_ms=90), ["gru-1"])
    assert (row(fleet).next, row(fleet).ttft_budget_ms) == (None, 90)
    assert (await fleet.show()).rollout is None


async def test_a_row_that_carries_a_next_version_of_a_client_loses_it(fleet: DeployedFleet):
    mean = replace(WANTED, next=NextVersion(NEXT.name, ""))
    await fleet.ops.deployments.apply(ANA, mean, ["gru-1"])
    assert holders(fleet, NEXT.name) == set()
    await fleet.ops.deploys.create(ANA, replace(mean, name="acme/other"), ["gru-1"])
    assert holders(fleet, NEXT.name) == set()


async def test_the_version_before_goes_when_every_agent_has_the_new_row(fleet: DeployedFleet):
    fleet.acknowledge()
    await switched(fleet)
    await fleet.pass_ms(5_000.0)
    assert (await fleet.show()).rollout is not None, "all agents have the row of before"
    fleet.acknowledge("gru-1", "iad-1")
    await fleet.pass_ms(5_000.0)
    assert (await fleet.show()).rollout is not None, "fra-1 still places by the row of before"
    fleet.acknowledge("fra-1")
    await fleet.pass_ms()
    assert (await fleet.show()).rollout is not None, "what was placed just before arrives"
    await fleet.pass_ms(FOLLOWED_GRACE_MS)
    assert (await fleet.show()).rollout is None
    assert BASE.name not in fleet.holds("gru-1")


async def test_an_agent_that_never_follows_holds_the_version_before_for_the_grace_only(
    fleet: DeployedFleet,
):
    await switched(fleet)
    fleet.acknowledge("gru-1", "iad-1")  # fra-1 is not connected, and not dead: it places on
    await fleet.pass_ms(GRACE_MS - 2_000.0)
    assert (await fleet.show()).rollout is not None
    await fleet.pass_ms(2_000.0)
    assert (await fleet.show()).rollout is None


async def test_a_dead_node_is_not_waited_for(fleet: DeployedFleet):
    fleet.silent = {"fra-1"}
    for _ in range(100):
        await fleet.pass_ms(1_000.0)
        await fleet.report("iad-1")
        await fleet.obey("gru-1")
        if fleet.store.view().nodes["fra-1"].health is NodeHealth.DEAD:
            break
    assert fleet.store.view().nodes["fra-1"].health is NodeHealth.DEAD
    await switched(fleet)
    fleet.acknowledge("gru-1", "iad-1")
    await fleet.pass_ms()
    await fleet.pass_ms(FOLLOWED_GRACE_MS)
    assert (await fleet.show()).rollout is None


async def test_two_updates_at_once_are_one_update_and_one_conflict(fleet: DeployedFleet):
    dearer = replace(WANTED, ttft_budget_ms=200)
    done = await asyncio.gather(
        fleet.ops.deploys.update(ANA, CHANGED, ["gru-1"]),
        fleet.ops.deploys.update(ANA, dearer, ["gru-1"]),
        return_exceptions=True,
    )
    (refused,) = [one for one in done if isinstance(one, BaseException)]
    assert isinstance(refused, Conflict)
    assert not refused.retryable
    assert "edgeforge deploy show acme/support" in refused.hint
    status = await fleet.show()
    assert status.rollout is not None
    assert (status.rollout.other.model, row(fleet).ttft_budget_ms) == (NEXT.name, 80)


async def test_an_update_while_a_change_is_prepared_is_refused_with_what_to_do(
    fleet: DeployedFleet,
):
    await begin(fleet)
    with pytest.raises(Conflict, match=r"operator/ana is changing .* to revision 2") as refused:
        await fleet.ops.deploys.update(ANA, replace(WANTED, ttft_budget_ms=200), ["gru-1"])
    assert "deploy rollback acme/support" in refused.value.hint
    await fleet.obey("gru-1")
    assert row(fleet).model == NEXT.name


async def test_a_change_made_from_an_older_revision_is_refused_by_either_command(
    fleet: DeployedFleet,
):
    read = row(fleet)
    await fleet.ops.deploys.update(ANA, replace(read, ttft_budget_ms=200), ["gru-1"])
    with pytest.raises(Conflict, match="changed meanwhile: it is at revision 2"):
        await fleet.ops.deploys.update(ANA, replace(read, strict=True), ["gru-1"])
    with pytest.raises(Conflict, match="changed meanwhile: it is at revision 2"):
        await fleet.ops.deployments.apply(ANA, replace(read, strict=True), ["gru-1"])
    assert (row(fleet).ttft_budget_ms, row(fleet).strict) == (200, False)
    actions = [one[1] for one in await fleet.fleet.notes()]
    assert actions.count("deploy.update") == 1
    assert actions.count("deployment.apply") == 0


async def test_a_rollback_to_a_revision_takes_the_place_of_what_is_prepared(fleet: DeployedFleet):
    await begin(fleet)
    await fleet.ops.deploys.rollback(ANA, NAME, 1)
    assert (row(fleet).model, row(fleet).revision) == (BASE.name, 3), "2 was taken"
    await fleet.pass_ms()
    await fleet.obey()
    assert row(fleet).model == BASE.name


async def test_a_change_that_is_never_ready_is_withdrawn_and_the_version_before_serves_on(
    fleet: DeployedFleet,
):
    await begin(fleet, timeout_ms=60_000)
    full = replica(NEXT.name, ReplicaState.PULLING, error="disk is full")
    await fleet.report("gru-1", replica(BASE.name, ReplicaState.READY), full)
    assert (await fleet.show()).waits_for == ["pulling acme/base@2 at gru-1: disk is full"]
    await fleet.pass_ms(58_000.0)
    assert (await fleet.show()).rollout is not None
    await fleet.pass_ms(2_000.0)
    status = await fleet.show()
    assert (status.rollout, status.waits_for, status.served) == (None, [], True)
    assert status.withdrawn is not None
    assert (status.withdrawn.number, status.withdrawn.by) == (2, "coordinator")
    why = "not ready after 60 s: pulling acme/base@2 at gru-1: disk is full"
    assert status.withdrawn.why == why
    assert (row(fleet).model, row(fleet).revision, row(fleet).next) == (BASE.name, 1, None)
    assert NEXT.name not in fleet.holds("gru-1")
    (note,) = [one for one in await fleet.fleet.notes() if one[1] == "deploy.withdraw"]
    assert note[3] == f"revision=2 {why}"


async def test_a_restarted_coordinator_withdraws_in_time_and_still_says_why(fleet: DeployedFleet):
    await begin(fleet, timeout_ms=60_000)
    fleet.restart()
    await fleet.pass_ms(60_000.0)
    fleet.restart()
    status = await fleet.show()
    assert status.withdrawn is not None
    assert status.withdrawn.why.startswith("not ready after 60 s: ")


async def test_a_number_that_was_withdrawn_is_given_to_no_other_version(fleet: DeployedFleet):
    await begin(fleet)
    await fleet.ops.deploys.rollback(ANA, NAME)
    await switched(fleet)
    status = await fleet.show()
    assert row(fleet).revision == 3
    assert status.withdrawn is None, "the latest change happened"


@pytest.mark.parametrize("timeout_ms", [1, 999, 604_800_001, 2**32 - 1])
async def test_a_timeout_beyond_belief_is_refused(fleet: DeployedFleet, timeout_ms: int):
    with pytest.raises(InvalidRequest, match="timeout"):
        await fleet.ops.deploys.update(ANA, CHANGED, ["gru-1"], timeout_ms=timeout_ms)
    with pytest.raises(InvalidRequest, match="timeout"):
        await fleet.ops.deploys.rollback(ANA, NAME, 1, timeout_ms=timeout_ms)
    assert (await fleet.show()).rollout is None


async def test_an_account_removes_its_own_deployment_and_no_other(fleet: DeployedFleet):
    with pytest.raises(NotFound):
        await fleet.ops.deployments.remove(Actor.of_account("globex"), NAME)
    assert NAME in fleet.store.view().deployments
    await fleet.ops.deployments.remove(Actor.of_account("acme"), NAME)
    assert NAME not in fleet.store.view().deployments
    noted = [one[:3] for one in await fleet.fleet.notes() if one[1] == "deployment.remove"]
    assert noted == [("account/acme", "deployment.remove", f"deployment/{NAME}")]


async def test_the_list_of_deployments_says_why_a_node_is_stuck(fleet: DeployedFleet):
    full = replica(BASE.name, ReplicaState.PULLING, error="disk is full")
    await fleet.report("gru-1", full)
    (placed,) = await fleet.ops.deployments.list_all(ANA)
    assert placed.errors == {"gru-1": "disk is full"}
    await fleet.report("gru-1", replica(BASE.name, ReplicaState.READY, error="of before"))
    (placed,) = await fleet.ops.deployments.list_all(ANA)
    assert placed.errors == {}
