"""Reports become rows: with a real database and a clock set by the test."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from coordinator.core.claims import CONFIRM_MS, LEAVING_MS
from coordinator.core.failure_detector import DetectorPolicy
from coordinator.core.fleet_figures import FleetCounters
from coordinator.core.node_orders import (
    SETTLE_MS,
    NodeCondition,
    NodeFault,
    NodeOrder,
    OrderKind,
    Phase,
)
from coordinator.core.profile_bounds import bounded_profile, profile_bounds
from coordinator.core.push_session import Alarm, AlarmKind, PushSession
from coordinator.core.table_builder import ReplicaReport
from coordinator.fleet.agent_queries import QueryLimits
from coordinator.fleet.desired_rows import DesiredRows
from coordinator.fleet.live import NodeReport
from coordinator.fleet.memory import FleetMemory
from coordinator.fleet.placement_writer import PlacementWriter
from coordinator.fleet.push_bytes import PushEncoder
from coordinator.fleet.registry import FleetRegistry
from coordinator.fleet.session import AgentSession, SessionParts
from coordinator.fleet.supervisor import MAX_NOTES, FleetSupervisor
from coordinator.store import accounts, deployments, models, node_orders, nodes, pops
from coordinator.store.store import Store
from protos.domain.customers import Account
from protos.domain.errors import LinkDown
from protos.domain.resources import (
    EngineProfile,
    NodeHealth,
    NodeIntent,
    ReplicaState,
    ResourceType,
)
from protos.v1 import fleet_pb2
from tests.support.remembered import mentions
from tests.support.stores import (
    FILES,
    GRU,
    MODEL,
    SetClock,
    audited,
    deployment,
    enrol,
    registration,
)
from tests.support.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TICK_MS = 500.0
READY = (ReplicaReport(MODEL.name, ReplicaState.READY, 1),)


class Watch:
    """One coordinator's state, and the supervisor over it."""

    def __init__(self, store: Store, database: Path, policy: DetectorPolicy) -> None:
        self.store = store
        self.database = database
        self.policy = policy
        self.now_ms = 0.0
        self.counters = FleetCounters()
        self.changes = 0
        self.clock = SetClock()
        store.on_change(self._changed)
        self.restart()

    def restart(self) -> None:
        """A new process over the same database."""
        self.memory = FleetMemory()
        self.desired = DesiredRows(self.store, self.memory)
        self.placement = PlacementWriter(
            self.store,
            self.desired,
            self.memory,
            now_mono_ms=lambda: self.now_ms,
            now_unix_ms=self.clock,
        )
        self.supervisor = FleetSupervisor(
            self.store,
            self.placement,
            self.memory,
            self.policy,
            counters=self.counters,
            now_mono_ms=lambda: self.now_ms,
            now_unix_ms=self.clock,
            history_max_age_ms=1_000.0,
        )

        self.registry = FleetRegistry(
            self.store,
            self.memory,
            max_agents=10,
            query_limits=QueryLimits(),
            counters=self.counters,
            now_mono_ms=lambda: self.now_ms,
            now_unix_ms=self.clock,
            draw=lambda: 0.5,
            on_topology_forced=self.supervisor.lift_freeze,
        )

    def connect(self, node_id: str) -> AgentSession:
        """Open a stream that nothing is written to."""
        parts = SessionParts(
            encoder=PushEncoder(self.store, self.counters),
            push_slots=asyncio.Semaphore(1),
            counters=self.counters,
            now_mono_ms=lambda: self.now_ms,
            on_alarm=self.supervisor.alarm,
        )
        machine = PushSession(self.registry.tables_of(node_id), push_timeout_ms=60_000.0)
        session = AgentSession(node_id, "boot", machine, parts)
        self.registry.open(session)
        return session

    async def join(self, node_id: str, engine_kind: str = "vllm") -> None:
        """Enrol a node and have it say Hello."""
        await enrol(self.store, node_id)
        self.supervisor.hello(registration(node_id, engine_kind))
        await self.supervisor.step()

    async def order(self, *node_ids: str) -> None:
        """Pin a deployment of the model to nodes, or remove it, and have that planned."""
        if node_ids:
            await self.store.write(deployments.put(deployment(), node_ids, create_only=False))
        else:
            await self.store.write(deployments.remove(deployment().name))
        await self.supervisor.step()

    def report(self, *node_ids: str, replicas=(), reachable=None, draining: bool = False) -> None:
        for node_id in node_ids:
            condition = NodeCondition(draining=draining)
            self.supervisor.status(node_id, replicas, reachable or {}, condition)

    async def pass_ms(self, duration_ms: float, *reporting: str) -> None:
        end_ms = self.now_ms + duration_ms
        while self.now_ms < end_ms:
            self.now_ms += TICK_MS
            self.report(*reporting)
            await self.supervisor.step()

    def health(self, node_id: str) -> NodeHealth:
        return self.store.view().nodes[node_id].health

    async def actions(self) -> list[str]:
        return [record.note.action for record in await audited(self.store, 100)]

    def _changed(self, resource_type: ResourceType, scope: str) -> None:
        self.changes += 1
        self.supervisor.table_changed(resource_type, scope)


@pytest.fixture
async def watch(tmp_path: Path) -> AsyncIterator[Watch]:
    database = tmp_path / "coordinator.db"
    store = await Store.open(database, now_unix_ms=SetClock(), busy_timeout_ms=100)
    await store.write(pops.put(GRU))
    await store.write(models.register(MODEL, FILES))
    await store.write(accounts.create(Account("acme")))
    yield Watch(store, database, DetectorPolicy())
    await store.close()


async def test_health_follows_silence_and_return(watch: Watch):
    await watch.join("gru-1")
    await watch.join("gru-2")
    await watch.pass_ms(6_000, "gru-2")
    assert watch.health("gru-1") is NodeHealth.SUSPECT
    watch.report("gru-2", reachable={"gru-1": False})
    await watch.supervisor.step()
    assert watch.health("gru-1") is NodeHealth.UNROUTABLE
    await watch.pass_ms(24_000, "gru-2")
    assert watch.health("gru-1") is NodeHealth.DEAD
    watch.report("gru-1")
    await watch.supervisor.step()
    assert watch.health("gru-1") is NodeHealth.READY
    assert watch.health("gru-2") is NodeHealth.READY


async def test_a_fleet_without_changes_writes_nothing(watch: Watch):
    for node_id in ("gru-1", "gru-2"):
        await watch.join(node_id)
    await watch.order("gru-1")
    watch.report("gru-1", replicas=READY)
    await watch.supervisor.step()
    watch.changes = 0
    for _ in range(10):
        watch.now_ms += TICK_MS
        watch.report("gru-1", replicas=READY)
        watch.report("gru-2")
        watch.supervisor.hello(registration("gru-1"))
        await watch.supervisor.step()
    assert watch.changes == 0


async def test_leases_start_again_with_the_process(watch: Watch):
    await watch.join("gru-1")
    await watch.order("gru-1")
    watch.report("gru-1", replicas=READY)
    await watch.supervisor.step()
    watch.changes = 0
    watch.now_ms += 3_600_000
    watch.restart()
    await watch.pass_ms(watch.policy.reconnect_ms + 5_500)
    assert watch.changes == 0
    assert watch.health("gru-1") is NodeHealth.READY
    assert "gru-1" in watch.store.view().replicas[MODEL.name]
    await watch.pass_ms(25_000)
    assert watch.health("gru-1") is NodeHealth.DEAD


async def test_replicas_and_draining_follow_the_nodes_report(watch: Watch):
    await watch.join("gru-1")
    await watch.order("gru-1")
    watch.report("gru-1", replicas=READY, draining=True)
    await watch.supervisor.step()
    assert watch.store.view().replicas[MODEL.name]["gru-1"].state is ReplicaState.READY
    assert watch.store.view().nodes["gru-1"].intent is NodeIntent.DRAINING
    watch.report("gru-1")
    await watch.supervisor.step()
    assert watch.store.view().replicas == {}
    assert watch.store.view().nodes["gru-1"].intent is NodeIntent.ACTIVE


async def test_a_node_that_was_given_no_model_gets_no_row_for_the_one_it_reports(
    watch: Watch, caplog: pytest.LogCaptureFixture
):
    for node_id in ("gru-1", "gru-2"):
        await watch.join(node_id)
    await watch.order("gru-1")
    for _ in range(3):
        watch.report("gru-1", "gru-2", replicas=READY)
        await watch.supervisor.step()
        assert "gru-2" not in watch.store.view().replicas[MODEL.name]
        watch.now_ms += CONFIRM_MS
    assert set(watch.store.view().replicas[MODEL.name]) == {"gru-1"}
    assert watch.counters.unordered_replicas == 1
    (claim,) = watch.memory.claims.of("gru-2")
    assert claim.detail == f"claims {MODEL.name} that it was not ordered"
    assert watch.memory.claims.of("gru-1") == ()
    assert (await watch.actions()).count("node.claim") == 1
    assert sum("claim dropped" in one.message for one in caplog.records) == 1


async def test_a_replica_reported_before_its_order_appears_with_it(watch: Watch):
    await watch.join("gru-1")
    watch.report("gru-1", replicas=READY)
    await watch.supervisor.step()
    assert watch.store.view().replicas == {}
    await watch.order("gru-1")
    assert "gru-1" in watch.store.view().replicas[MODEL.name]
    assert watch.memory.claims.of("gru-1") == ()


async def test_a_replica_whose_order_was_withdrawn_stays_until_it_has_left_and_no_longer(
    watch: Watch,
):
    await watch.join("gru-1")
    await watch.order("gru-1")
    watch.report("gru-1", replicas=READY)
    await watch.supervisor.step()
    await watch.order()
    assert "gru-1" in watch.store.view().replicas[MODEL.name], "it drains"
    watch.now_ms += LEAVING_MS
    await watch.supervisor.step()
    assert watch.store.view().replicas == {}


async def test_a_profile_that_no_such_accelerator_can_have_is_bounded_in_the_row(watch: Watch):
    await watch.join("gru-1")
    await watch.order("gru-1")
    flattering = EngineProfile(0.1, 0.0, 65_536, 1e12)
    watch.supervisor.hello(replace(registration("gru-1"), profile=flattering))
    condition = NodeCondition(accelerators=("NVIDIA L4",))
    watch.supervisor.status("gru-1", READY, {}, condition)
    await watch.supervisor.step()
    row = watch.store.view().replicas[MODEL.name]["gru-1"].profile
    assert row == bounded_profile(flattering, profile_bounds(("NVIDIA L4",), MODEL))
    assert row.first_token_ms_p99 > 1.0
    (claim,) = watch.memory.claims.of("gru-1")
    assert "a first token of 0.1 ms" in claim.detail


async def test_a_pinned_deployment_is_planned_kept_and_withdrawn(watch: Watch):
    await watch.join("gru-1")
    await watch.join("gru-2", "none")
    await watch.store.write(deployments.put(deployment(), ["gru-1", "gru-2"], create_only=True))
    await watch.supervisor.step()
    assert set(watch.desired.of("gru-1")) == {MODEL.name}
    assert watch.desired.of("gru-2") == {}
    assert FILES[0] in watch.desired.of("gru-1")[MODEL.name].files
    assert watch.placement.unplaced == 1
    await watch.order()
    assert watch.desired.of("gru-1") == {}
    assert watch.placement.unplaced == 0


async def test_a_node_that_gets_an_engine_gets_its_model(watch: Watch):
    await watch.join("gru-1", "none")
    await watch.store.write(deployments.put(deployment(), ["gru-1"], create_only=True))
    await watch.supervisor.step()
    assert watch.desired.of("gru-1") == {}
    watch.supervisor.hello(registration("gru-1", "vllm"))
    await watch.supervisor.step()
    assert set(watch.desired.of("gru-1")) == {MODEL.name}


async def test_a_dead_node_keeps_its_plan(watch: Watch):
    await watch.join("gru-1")
    await watch.store.write(deployments.put(deployment(), ["gru-1"], create_only=True))
    await watch.pass_ms(31_000)
    assert watch.health("gru-1") is NodeHealth.DEAD
    assert set(watch.desired.of("gru-1")) == {MODEL.name}


async def test_a_removed_node_leaves_no_rows(watch: Watch):
    await watch.join("gru-1")
    await watch.order("gru-1")
    watch.report("gru-1", replicas=READY)
    await watch.supervisor.step()
    await watch.store.write(nodes.remove("gru-1"))
    watch.supervisor.hello(registration("gru-1"))  # was under way
    watch.report("gru-1", replicas=READY)
    await watch.pass_ms(1_000)
    assert watch.store.view().nodes == {}
    assert watch.store.view().replicas == {}
    assert watch.store.node_record("gru-1") is None


async def test_a_removed_node_leaves_nothing_behind_in_memory(watch: Watch):
    """Its status, replicas, condition, desired table, probes and stream: all of it goes."""
    await watch.join("gru-1")
    await watch.join("gru-2")
    await watch.store.write(deployments.put(deployment(), ["gru-1"], create_only=True))
    session = watch.connect("gru-1")
    watch.registry.heard(session, NodeReport, {"gru-2": 1})
    watch.report("gru-2", replicas=READY, reachable={"gru-1": True})
    watch.report("gru-1", replicas=READY, reachable={"gru-2": False})
    await watch.supervisor.step()
    assert watch.desired.of("gru-1")
    asked = asyncio.ensure_future(watch.registry.ask("gru-1", fleet_pb2.Query()))
    await asyncio.sleep(0)
    parts = (watch.memory, watch.supervisor, watch.registry, watch.desired, watch.placement)
    assert len(mentions("gru-1", *parts)) > 5
    await watch.store.write(nodes.remove("gru-1"))
    watch.supervisor.hello(registration("gru-1"))  # was under way
    watch.registry.end_removed()
    assert session.ended
    watch.registry.close(session)
    with pytest.raises(LinkDown):
        await asked
    await watch.pass_ms(1_000)
    assert mentions("gru-1", *parts) == []
    assert mentions("gru-2", *parts)


async def test_the_stream_of_a_node_that_was_removed_before_it_was_listed_ends(watch: Watch):
    await enrol(watch.store, "gru-1")
    session = watch.connect("gru-1")
    watch.supervisor.hello(registration("gru-1"))
    await watch.store.write(nodes.remove("gru-1"))
    beating = asyncio.ensure_future(watch.registry.beat())
    await wait_until_async(lambda: session.ended, 5, "the end of the stream")
    beating.cancel()
    await watch.supervisor.step()
    assert mentions("gru-1", watch.memory, watch.supervisor) == []


async def test_a_freeze_lasts_until_an_operator_ends_it(watch: Watch):
    names = [f"gru-{index}" for index in range(12)]
    for name in names:
        await watch.join(name)
    await watch.pass_ms(60_000, names[0])
    assert watch.supervisor.frozen
    assert {watch.health(name) for name in names} == {NodeHealth.READY, NodeHealth.SUSPECT}
    assert "alarm.fleet_frozen" in await watch.actions()
    assert watch.counters.alarms == 1
    watch.supervisor.lift_freeze()
    await watch.pass_ms(1_000, names[0])
    assert not watch.supervisor.frozen
    assert watch.health(names[1]) is NodeHealth.DEAD
    assert "fleet.unfrozen" in await watch.actions()


async def test_while_the_database_is_locked_nothing_is_lost_and_it_is_logged_once(
    watch: Watch, caplog: pytest.LogCaptureFixture
):
    await watch.join("gru-1")
    await watch.order("gru-1")
    await enrol(watch.store, "gru-2")
    alarm = Alarm(AlarmKind.TABLE_REFUSED, ResourceType.PRICES, "why")
    with contextlib.closing(sqlite3.connect(watch.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        watch.supervisor.hello(registration("gru-2"))
        watch.report("gru-1", replicas=READY, draining=True)
        watch.supervisor.alarm("gru-1", alarm)
        for _ in range(3):
            await watch.supervisor.step()
        other.execute("ROLLBACK")
    assert watch.counters.passes_deferred == 3
    await watch.supervisor.step()
    view = watch.store.view()
    assert "gru-2" in view.nodes
    assert "gru-1" in view.replicas[MODEL.name]
    assert view.nodes["gru-1"].intent is NodeIntent.DRAINING
    assert (await watch.actions()).count("alarm.table_refused") == 1
    told = [one.message for one in caplog.records if one.name == "coordinator.fleet.supervisor"]
    assert sum("cannot be written, it waits" in line for line in told) == 1


async def test_notes_that_wait_are_bounded(watch: Watch):
    alarm = Alarm(AlarmKind.TABLE_REFUSED, ResourceType.PRICES, "why")
    for _ in range(MAX_NOTES + 50):
        watch.supervisor.alarm("gru-1", alarm)
    await watch.supervisor.step()
    assert len(await audited(watch.store, MAX_NOTES * 2)) <= MAX_NOTES


async def test_old_changes_are_dropped_once_an_hour(watch: Watch):
    await watch.join("gru-1")
    version = watch.store.table(ResourceType.TOPOLOGY).at.version
    await watch.pass_ms(1_000, "gru-1")
    watch.now_ms += 3_600_000
    await watch.pass_ms(1_000, "gru-1")
    assert watch.store.table(ResourceType.TOPOLOGY).at.version == version


async def test_a_fatal_fault_drains_the_node_until_it_is_resumed_even_when_its_agent_forgets(
    watch: Watch,
):
    await watch.join("gru-1")
    lost = NodeFault("GPU 0 is lost", fatal=True, latched=True)
    watch.supervisor.status("gru-1", (), {}, NodeCondition(faults=(lost,)))
    await watch.supervisor.step()
    node = watch.store.view().nodes["gru-1"]
    assert (node.intent, node.intent_reason) == (NodeIntent.DRAINING, "GPU 0 is lost")
    assert "node.drain" in await watch.actions()
    watch.report("gru-1")
    await watch.supervisor.step()
    assert watch.store.view().nodes["gru-1"].intent is NodeIntent.DRAINING
    await watch.store.write(node_orders.put("gru-1", None))
    await watch.supervisor.step()
    assert watch.store.view().nodes["gru-1"].intent is NodeIntent.ACTIVE


async def test_a_resume_is_not_undone_by_what_was_reported_before_it(watch: Watch):
    await watch.join("gru-1")
    lost = NodeFault("GPU 0 is lost", fatal=True, latched=True)
    watch.supervisor.status("gru-1", (), {}, NodeCondition(faults=(lost,)))
    await watch.supervisor.step()
    watch.supervisor.resumed("gru-1")
    await watch.store.write(node_orders.put("gru-1", None))
    await watch.supervisor.step()
    assert watch.store.view().nodes["gru-1"].intent is NodeIntent.ACTIVE


async def test_a_retiring_nodes_replica_moves_first_then_it_drains_then_it_holds_nothing(
    watch: Watch,
):
    chat = deployment()
    for node_id in ("gru-1", "gru-2"):
        await watch.join(node_id)
    await watch.store.write(deployments.put(chat, ("gru-1",), create_only=True))
    watch.report("gru-1", replicas=READY)
    await watch.supervisor.step()
    retire = NodeOrder(OrderKind.RETIRE, "operator/ana", "", watch.clock(), Phase.MOVING)
    await watch.store.write(node_orders.put("gru-1", retire))
    await watch.supervisor.step()
    await watch.supervisor.step()
    assert watch.store.placements()[chat.name] == ("gru-1", "gru-2")
    assert set(watch.desired.of("gru-2")) == {MODEL.name}
    node = watch.store.view().nodes["gru-1"]
    assert node.intent is NodeIntent.CORDONED, "it serves until the other is ready"
    watch.report("gru-2", replicas=READY)
    await watch.supervisor.step()
    await watch.supervisor.step()
    assert watch.store.view().nodes["gru-1"].intent is NodeIntent.DRAINING
    assert watch.store.node_orders()["gru-1"].phase is Phase.DRAINING
    watch.clock.unix_ms += int(SETTLE_MS)
    await watch.supervisor.step()
    await watch.supervisor.step()
    assert watch.store.view().nodes["gru-1"].intent is NodeIntent.RETIRED
    assert watch.store.placements()[chat.name] == ("gru-2",)
    assert watch.desired.of("gru-1") == {}


async def test_an_agent_gets_the_price_card_before_any_key(watch: Watch):
    await watch.join("gru-1")
    order = list(watch.registry.tables_of("gru-1"))
    assert set(order) == set(ResourceType)
    assert order[-1] is ResourceType.CREDENTIALS
