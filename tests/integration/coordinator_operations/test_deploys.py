"""Deploys: what they wait for, the atomic switch, going back, and what is refused with numbers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from coordinator.core.rollout import GRACE_MS, RolloutPhase
from coordinator.operations.actor import Actor
from protos.domain.errors import Conflict, EdgeForgeError, Forbidden, InvalidRequest, NotFound
from protos.domain.object_names import ObjectKind
from protos.domain.resources import (
    Deployment,
    Hold,
    ReplicaState,
    Residency,
    ResourceType,
    SlaTier,
)
from tests.support.deployed_fleet import (
    ANA,
    BASE,
    HARDWARE,
    HUGE,
    LORA,
    NEXT,
    NODES,
    WIDE,
    DeployedFleet,
    deployed_fleet,
    replica,
)

if TYPE_CHECKING:
    from pathlib import Path

WANTED = Deployment("acme/support", "acme", BASE.name, "", 80, SlaTier.REALTIME, (), strict=False)
BOTH = ("gru-1", "iad-1")


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[DeployedFleet]:
    async with deployed_fleet(tmp_path) as fleet:
        yield fleet


async def deploy(fleet: DeployedFleet, wanted: Deployment = WANTED, nodes=("gru-1",)):
    await fleet.ops.deploys.create(ANA, wanted, nodes)
    await fleet.pass_ms()


async def deployed(fleet: DeployedFleet, wanted: Deployment = WANTED, nodes=("gru-1",)):
    await deploy(fleet, wanted, nodes)
    await fleet.obey()
    assert (await fleet.show()).served


async def test_a_deploy_waits_and_says_for_what(fleet: DeployedFleet):
    made = await fleet.ops.deploys.create(ANA, WANTED, ["gru-1"])
    assert made.waits_for == ["waiting for the plan to give it to a node"]
    await fleet.pass_ms()
    assert (await fleet.show()).waits_for == ["waiting for node gru-1 to begin with acme/base@1"]
    pulling = replica(
        BASE.name,
        ReplicaState.PULLING,
        residency=Residency.PEER,
        pulled_bytes=120_000_000,
        total_bytes=269_000_000,
    )
    await fleet.report("gru-1", pulling)
    assert (await fleet.show()).waits_for == ["pulling 120 of 269 MB at gru-1"]
    await fleet.report("gru-1", replica(BASE.name, ReplicaState.STARTING))
    status = await fleet.show()
    assert status.waits_for == ["starting engine at gru-1"]
    assert not status.served
    await fleet.obey("gru-1")
    status = await fleet.show()
    assert status.waits_for == []
    assert status.served


async def test_a_node_that_fails_says_why(fleet: DeployedFleet):
    await deploy(fleet)
    await fleet.report("gru-1", replica(BASE.name, ReplicaState.FAILED, error="disk is full"))
    assert (await fleet.show()).waits_for == ["failed at gru-1: disk is full"]


async def test_a_node_that_is_gone_is_waited_for_while_no_other_serves(fleet: DeployedFleet):
    await deploy(fleet, nodes=BOTH)
    del fleet.fleet.nodes["iad-1"]
    assert "waiting for node iad-1: it is not connected" in (await fleet.show()).waits_for
    await fleet.obey("gru-1")
    assert (await fleet.show()).waits_for == []


async def test_an_update_switches_once_and_only_when_the_next_version_is_ready(
    fleet: DeployedFleet,
):
    await deployed(fleet, nodes=BOTH)
    fleet.seen.clear()
    changed = replace(WANTED, model=NEXT.name)
    status = await fleet.ops.deploys.update(ANA, changed, BOTH)
    assert status.rollout is not None
    assert status.rollout.phase is RolloutPhase.PREPARING
    await fleet.pass_ms()
    # One of two nodes keeps what serves; the other has one engine and takes the next version.
    hot = {node: [k for k, h in fleet.holds(node).items() if h is Hold.HOT] for node in BOTH}
    assert sorted(hot.values()) == [[BASE.name], [NEXT.name]]
    (taker,) = [node for node in BOTH if hot[node] == [NEXT.name]]
    (keeper,) = {*BOTH} - {taker}
    await fleet.obey(keeper)
    starting = replica(NEXT.name, ReplicaState.STARTING)
    await fleet.report(taker, starting)
    assert fleet.store.view().deployments["acme/support"].model == BASE.name
    assert f"starting engine at {taker}" in (await fleet.show()).waits_for
    await fleet.obey(taker)
    row = fleet.store.view().deployments["acme/support"]
    assert (row.model, row.revision) == (NEXT.name, 2)
    # The version before stays hot for a grace: agents may have placed requests by the old row.
    assert fleet.holds(keeper)[BASE.name] is Hold.HOT
    await fleet.pass_ms(GRACE_MS)
    await fleet.pass_ms()
    assert [fleet.holds(node) for node in BOTH] == [{NEXT.name: Hold.HOT}] * 2
    assert (await fleet.show()).rollout is None
    assert fleet.seen in ([BASE.name, NEXT.name], [NEXT.name]), "the row changes once"


async def test_at_every_moment_of_an_update_some_node_serves_what_the_row_names(
    fleet: DeployedFleet,
):
    await deployed(fleet, nodes=BOTH)
    await fleet.ops.deploys.update(ANA, replace(WANTED, model=NEXT.name), BOTH)
    for _ in range(100):
        await fleet.pass_ms(1_000.0)
        for node_id in BOTH:
            await fleet.obey(node_id)
            view = fleet.store.view()
            named = view.deployments["acme/support"].model
            ready = [
                one
                for one in view.replicas.get(named, {}).values()
                if one.state is ReplicaState.READY
            ]
            assert ready, f"nobody serves {named}"
    assert fleet.store.view().deployments["acme/support"].model == NEXT.name


async def test_one_node_with_one_engine_has_the_next_version_on_disk_before_the_switch(
    fleet: DeployedFleet,
):
    await deployed(fleet)
    await fleet.ops.deploys.update(ANA, replace(WANTED, model=NEXT.name), ["gru-1"])
    await fleet.pass_ms()
    assert fleet.holds("gru-1") == {BASE.name: Hold.HOT, NEXT.name: Hold.DISK}
    ready = replica(BASE.name, ReplicaState.READY)
    pulling = replica(NEXT.name, ReplicaState.PULLING, pulled_bytes=1, total_bytes=2_000_000)
    await fleet.report("gru-1", ready, pulling)
    assert fleet.store.view().deployments["acme/support"].model == BASE.name
    await fleet.obey("gru-1")
    assert fleet.store.view().deployments["acme/support"].model == NEXT.name


async def test_a_restarted_coordinator_continues_an_update(fleet: DeployedFleet):
    await deployed(fleet)
    await fleet.ops.deploys.update(ANA, replace(WANTED, model=NEXT.name), ["gru-1"])
    fleet.restart()
    await fleet.pass_ms()
    await fleet.obey("gru-1")
    assert fleet.store.view().deployments["acme/support"].model == NEXT.name


async def test_what_needs_no_other_weights_changes_at_once(fleet: DeployedFleet):
    await deployed(fleet)
    changed = replace(WANTED, ttft_budget_ms=200, max_premium_percent=25)
    status = await fleet.ops.deploys.update(ANA, changed, ["gru-1"])
    assert status.deployment.ttft_budget_ms == 200
    assert status.deployment.max_premium_percent == 25
    assert status.waits_for == []


async def test_a_node_that_is_added_is_waited_for_from_the_start(fleet: DeployedFleet):
    """Before the plan has followed, each node that it knows of has all that it is to have."""
    await deployed(fleet)
    status = await fleet.ops.deploys.update(ANA, WANTED, ["gru-1", "fra-1"])
    assert status.waits_for == ["waiting for the plan to follow the change"]
    await fleet.pass_ms()
    (line,) = (await fleet.show()).waits_for
    assert line.endswith("fra-1 to begin with acme/base@1")
    await fleet.obey("gru-1", "fra-1")
    assert (await fleet.show()).waits_for == []


async def test_an_adapter_is_ready_before_it_is_switched_to(fleet: DeployedFleet):
    await deployed(fleet)
    await fleet.ops.deploys.update(ANA, replace(WANTED, adapter="acme/lora"), ["gru-1"])
    await fleet.pass_ms()
    key = f"{BASE.name}+{LORA.name}"
    assert fleet.holds("gru-1")[key] is Hold.HOT
    starting = replica(BASE.name, ReplicaState.STARTING, adapter=LORA.name)
    await fleet.report("gru-1", replica(BASE.name, ReplicaState.READY), starting)
    assert (await fleet.show()).waits_for == ["loading adapter acme/lora@1 at gru-1"]
    await fleet.obey("gru-1")
    assert fleet.store.view().deployments["acme/support"].adapter == LORA.name
    assert fleet.store.view().adapter_replicas[LORA.name]["gru-1"].state is ReplicaState.READY


async def test_an_adapter_that_requests_load_waits_for_its_base(fleet: DeployedFleet):
    """Without demand it is loaded by the first request; until the base serves, none could."""
    await fleet.ops.deploys.create(ANA, replace(WANTED, adapter="acme/lora"), ())
    await fleet.pass_ms()
    (home,) = [one for one in NODES if fleet.holds(one).get(BASE.name) is Hold.HOT]
    assert fleet.holds(home)[f"{BASE.name}+{LORA.name}"] is Hold.ON_DEMAND
    cold = replica(BASE.name, ReplicaState.COLD, adapter=LORA.name, residency=Residency.ORIGIN)
    await fleet.report(home, replica(BASE.name, ReplicaState.STARTING), cold)
    assert (await fleet.show()).waits_for == [f"starting engine at {home}"]
    await fleet.report(home, replica(BASE.name, ReplicaState.READY), cold)
    assert (await fleet.show()).waits_for == []


async def test_a_name_without_a_version_means_the_latest_when_it_is_deployed(fleet: DeployedFleet):
    made = await fleet.ops.deploys.create(ANA, replace(WANTED, model="acme/base"), ["gru-1"])
    assert made.deployment.model == NEXT.name


async def test_a_rollback_goes_to_the_revision_before_and_the_history_says_who(
    fleet: DeployedFleet,
):
    await deployed(fleet)
    await fleet.ops.deploys.update(ANA, replace(WANTED, model=NEXT.name), ["gru-1"])
    await fleet.pass_ms()
    await fleet.obey()
    await fleet.ops.deploys.rollback(ANA, "acme/support")
    await fleet.pass_ms()
    await fleet.obey()
    status = await fleet.show()
    assert status.deployment.model == BASE.name
    said = [(one.number, one.deployment.model, one.by, one.reason) for one in status.revisions]
    assert said == [
        (3, BASE.name, "operator/ana", "rollback to 1"),
        (2, NEXT.name, "operator/ana", "update"),
        (1, BASE.name, "operator/ana", "create"),
    ]


async def test_a_rollback_withdraws_a_change_that_is_prepared(fleet: DeployedFleet):
    await deployed(fleet)
    await fleet.ops.deploys.update(ANA, replace(WANTED, model=NEXT.name), ["gru-1"])
    await fleet.pass_ms()
    status = await fleet.ops.deploys.rollback(ANA, "acme/support")
    await fleet.pass_ms()
    assert status.rollout is None
    assert fleet.holds("gru-1") == {BASE.name: Hold.HOT}
    assert fleet.store.view().deployments["acme/support"].revision == 1
    assert status.withdrawn is not None
    assert status.withdrawn.why == "withdrawn by operator/ana"


async def test_a_rollback_to_what_never_was_is_refused(fleet: DeployedFleet):
    await deployed(fleet)
    with pytest.raises(NotFound, match="no revision 9"):
        await fleet.ops.deploys.rollback(ANA, "acme/support", 9)
    with pytest.raises(Conflict, match="no revision before 1"):
        await fleet.ops.deploys.rollback(ANA, "acme/support")


async def test_a_removed_deployment_leaves_no_order_and_no_history(fleet: DeployedFleet):
    await deployed(fleet)
    await fleet.ops.deployments.remove(ANA, "acme/support")
    await fleet.pass_ms()
    assert fleet.holds("gru-1") == {}
    assert fleet.store.deploys() == {}


async def test_what_a_change_under_way_needs_is_not_removed(fleet: DeployedFleet):
    await deployed(fleet)
    await fleet.ops.deploys.update(ANA, replace(WANTED, model=NEXT.name), ["gru-1"])
    with pytest.raises(Conflict, match="under way"):
        await fleet.ops.registry.remove(ANA, NEXT.name, ObjectKind.MODEL)


async def test_what_a_rollback_may_return_to_is_not_removed(fleet: DeployedFleet):
    await deployed(fleet)
    await fleet.ops.deploys.update(ANA, replace(WANTED, model=NEXT.name), ["gru-1"])
    await fleet.pass_ms()
    await fleet.obey()
    await fleet.ops.deploys.rollback(ANA, "acme/support")
    await fleet.pass_ms()
    await fleet.obey()
    await fleet.pass_ms(2 * GRACE_MS)
    assert (await fleet.show()).rollout is None
    with pytest.raises(Conflict, match="acme/support, which may be rolled back to 2"):
        await fleet.ops.registry.remove(ANA, NEXT.name, ObjectKind.MODEL)
    shown = await fleet.ops.registry.show(ANA, NEXT.name, ObjectKind.MODEL)
    assert shown.used_by == ("deployment acme/support, which may be rolled back to 2",)
    await fleet.ops.deployments.remove(ANA, "acme/support")
    await fleet.ops.registry.remove(ANA, NEXT.name, ObjectKind.MODEL)


REFUSED: list[tuple[str, Deployment, str, type[EdgeForgeError]]] = [
    (
        "a model larger than the memory of any node, with the numbers",
        replace(WANTED, model=HUGE.name),
        r"16\.00 GB of weights \(16000000000 bytes\).*fra-1 8\.00 GB, gru-1 8\.00 GB",
        InvalidRequest,
    ),
    (
        "a runtime for accelerators that no node has",
        replace(WANTED, runtime="acme/amd@1"),
        "acme/amd@1 is for rocm, not cuda",
        InvalidRequest,
    ),
    (
        "an adapter whose rank is above what engines take",
        replace(WANTED, adapter=WIDE.name),
        "rank 64, engines here take at most 32",
        InvalidRequest,
    ),
    (
        "an adapter for another base",
        replace(WANTED, model=NEXT.name, adapter=LORA.name),
        "is for acme/base@1, not for acme/base@2",
        InvalidRequest,
    ),
    (
        "a zone without a node",
        replace(WANTED, residency_zones=("JP",)),
        "none is in JP",
        InvalidRequest,
    ),
    (
        "a premium beyond belief",
        replace(WANTED, max_premium_percent=99_999),
        "99999",
        InvalidRequest,
    ),
    ("a model that does not exist", replace(WANTED, model="acme/none"), "acme/none", NotFound),
    ("an account that does not exist", replace(WANTED, account_id="globex"), "globex", NotFound),
]


@pytest.mark.parametrize(
    ("wanted", "says", "kind"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED]
)
async def test_a_deploy_that_no_node_can_serve_is_refused(
    fleet: DeployedFleet, wanted: Deployment, says: str, kind: type[EdgeForgeError]
):
    with pytest.raises(kind, match=says) as refused:
        await fleet.ops.deploys.create(ANA, wanted, [])
    assert refused.value.hint
    assert fleet.store.view().deployments == {}


async def test_the_refusal_of_a_runtime_lists_what_there_is(fleet: DeployedFleet):
    with pytest.raises(InvalidRequest) as refused:
        await fleet.ops.deploys.create(ANA, replace(WANTED, runtime="acme/amd@1"), [])
    assert "cuda with vllm 0.10.2 at 3 nodes" in refused.value.hint


async def test_the_refusal_of_an_adapter_names_the_way_to_port_it(fleet: DeployedFleet):
    wanted = replace(WANTED, model=NEXT.name, adapter=LORA.name)
    with pytest.raises(InvalidRequest) as refused:
        await fleet.ops.deploys.create(ANA, wanted, [])
    assert "adapter port acme/lora@1 --to acme/base@2" in refused.value.hint


async def test_nodes_that_do_not_tell_their_memory_are_tried(tmp_path: Path):
    silent = dict.fromkeys(("gru-1",), replace(HARDWARE, weights_memory_bytes=0))
    async with deployed_fleet(tmp_path, silent) as fleet:
        await deploy(fleet, replace(WANTED, model=HUGE.name), [])
        assert fleet.holds("gru-1") == {HUGE.name: Hold.HOT}
        assert fleet.holds("iad-1") == {}


async def test_an_account_deploys_for_itself_only_and_sees_only_its_own(fleet: DeployedFleet):
    acme, other = Actor.of_account("acme"), Actor.of_account("globex")
    await fleet.ops.deploys.create(acme, WANTED, [])
    with pytest.raises(Forbidden):
        await fleet.ops.deploys.create(other, replace(WANTED, name="globex/chat"), [])
    with pytest.raises(NotFound):
        await fleet.ops.deploys.show(other, "acme/support")
    assert await fleet.ops.deploys.list_all(other) == []
    assert [one.deployment.name for one in await fleet.ops.deploys.list_all(acme)] == [
        "acme/support"
    ]


async def outcomes(*acts: Awaitable[object]) -> list[object]:
    return await asyncio.gather(*acts, return_exceptions=True)


async def test_an_adapter_that_is_removed_in_the_same_moment_is_not_deployed(fleet: DeployedFleet):
    wanted = replace(WANTED, adapter=LORA.name)
    removed, made = await outcomes(
        fleet.ops.registry.remove(ANA, LORA.name, ObjectKind.ADAPTER),
        fleet.ops.deploys.create(ANA, wanted, ["gru-1"]),
    )
    assert removed == LORA.name
    assert isinstance(made, NotFound)
    assert WANTED.name not in fleet.store.view().deployments


async def test_a_change_to_what_is_removed_in_the_same_moment_is_not_begun(fleet: DeployedFleet):
    await deployed(fleet)
    removed, changed = await outcomes(
        fleet.ops.registry.remove(ANA, LORA.name, ObjectKind.ADAPTER),
        fleet.ops.deploys.update(ANA, replace(WANTED, adapter=LORA.name), ["gru-1"]),
    )
    assert removed == LORA.name
    assert isinstance(changed, NotFound)
    assert (await fleet.show()).rollout is None


async def test_of_two_changes_in_the_same_moment_the_second_is_told(fleet: DeployedFleet):
    await deployed(fleet)
    present = (await fleet.show()).deployment
    first, second = await outcomes(
        fleet.ops.deploys.update(ANA, replace(present, ttft_budget_ms=70), ["gru-1"]),
        fleet.ops.deploys.update(ANA, replace(present, strict=True), ["gru-1"]),
    )
    assert not isinstance(first, BaseException)
    now = (await fleet.show()).deployment
    # Neither is lost without a word: the second is done on top of the first, or refused.
    assert now.ttft_budget_ms == 70 or isinstance(second, Conflict)


async def test_a_change_and_a_removal_in_the_same_moment_are_no_fault(fleet: DeployedFleet):
    await deployed(fleet)
    present = (await fleet.show()).deployment
    for acts in (
        lambda: (
            fleet.ops.deployments.remove(ANA, WANTED.name),
            fleet.ops.deploys.update(ANA, replace(present, strict=True), ["gru-1"]),
        ),
        lambda: (
            fleet.ops.deploys.create(ANA, WANTED, ["gru-1"]),
            fleet.ops.deployments.remove(ANA, WANTED.name),
        ),
    ):
        for outcome in await outcomes(*acts()):
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, (NotFound, Conflict)), outcome


async def test_a_rollback_to_a_version_that_was_removed_is_refused(fleet: DeployedFleet):
    await deployed(fleet, replace(WANTED, adapter=LORA.name))
    present = (await fleet.show()).deployment
    await fleet.ops.deploys.update(ANA, replace(present, adapter=""), ["gru-1"])
    for _ in range(3):
        await fleet.pass_ms(GRACE_MS)
        await fleet.obey()
    with pytest.raises(Conflict, match="may be rolled back to 1"):
        await fleet.ops.registry.remove(ANA, LORA.name, ObjectKind.ADAPTER)
    # One that was removed before histories counted as uses.
    await fleet.store.write(
        lambda tx: tx.remove(ResourceType.DEPLOYMENTS, f"adapter/{LORA.name}") and None
    )
    with pytest.raises(NotFound):
        await fleet.ops.deploys.rollback(ANA, WANTED.name)
