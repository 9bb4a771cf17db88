"""Keeps the tables in step with the fleet: health, replicas, intents, desired replicas.

Level triggered: each pass compares the state in memory with the tables and writes the difference.
A pass whose write fails is repeated; nothing is queued for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from coordinator.core.failure_detector import (
    ClearFreezeAlarm,
    Command,
    DetectorPolicy,
    FailureDetector,
    FreezeLifted,
    NodeListed,
    NodeUnlisted,
    RaiseFreezeAlarm,
    SetHealth,
    StatusReceived,
    StreamEnded,
    Ticked,
)
from coordinator.core.plan_input import replica_key
from coordinator.core.profile_bounds import bounded_profile, flattery, profile_bounds
from coordinator.core.table_builder import ReplicaChanges, ReplicaReport, replica_changes
from coordinator.fleet.node_order_controller import NodeOrderController
from coordinator.fleet.rollout_controller import RolloutController
from coordinator.store import audit, nodes, replicas
from coordinator.store.records import AuditNote, NodeRecord, NodeRegistration
from protos.domain.errors import EdgeForgeError, StoreUnavailable
from protos.domain.resources import EngineProfile, Node, Replica, ResourceType

if TYPE_CHECKING:
    from coordinator.core.fleet_figures import FleetCounters
    from coordinator.core.node_orders import NodeCondition
    from coordinator.core.push_session import Alarm
    from coordinator.core.twins import Twin
    from coordinator.fleet.deploy_nodes import LiveOf
    from coordinator.fleet.memory import FleetMemory, NodeMemory
    from coordinator.fleet.placement_writer import PlacementWriter
    from coordinator.fleet.rollout_controller import HeldBy
    from coordinator.store.store import Store
    from protos.domain.fleet_view import FleetView

_log = logging.getLogger(__name__)

TICK_S = 0.5
#: Registrations written in one pass, one transaction each, so that health does not wait for all.
MAX_REGISTRATIONS_PER_PASS = 100
#: Audit entries that wait for the database; the oldest are dropped first.
MAX_NOTES = 1_000
_COMPACTION_INTERVAL_MS = 3_600_000.0


class FleetSupervisor:
    """The only writer of rows derived from reports and probes. Only ``run`` writes."""

    def __init__(
        self,
        store: Store,
        placement: PlacementWriter,
        memory: FleetMemory,
        policy: DetectorPolicy,
        *,
        counters: FleetCounters,
        now_mono_ms: Callable[[], float],
        now_unix_ms: Callable[[], int],
        history_max_age_ms: float,
        held_by: HeldBy = dict,
        live_of: LiveOf = lambda node_id: None,
    ) -> None:
        """``held_by`` returns the version of the deployments' table at each connected node."""
        self._store = store
        self._placement = placement
        self._memory = memory
        self._orders = NodeOrderController(store, placement, memory, now_unix_ms)
        self._rollouts = RolloutController(
            store, placement.desired_of, now_unix_ms, held_by, live_of
        )
        self._counters = counters
        self._now_mono_ms = now_mono_ms
        self._now_unix_ms = now_unix_ms
        self._history_max_age_ms = history_max_age_ms
        self._detector = FailureDetector(policy, now_mono_ms())
        #: Until the first pass: nodes in the table then were listed before this process started.
        self._returning = True
        self._registry_seen: tuple[object, object] = (None, None)
        self._notes: deque[AuditNote] = deque(maxlen=MAX_NOTES)
        self._wake = asyncio.Event()
        self._deferred = False
        self._compacted_mono_ms = now_mono_ms()

    @property
    def frozen(self) -> bool:
        """Whether the fleet is frozen: too many nodes are missing at once."""
        return self._detector.frozen

    def hello(self, registration: NodeRegistration) -> None:
        """Store a node's registration; it is written only if it differs from the record."""
        node_id = registration.node_id
        record, node = self._store.node_record(node_id), self._store.view().nodes.get(node_id)
        if not _is_known(registration, record, node):
            self._memory.of(node_id).registration = registration
        self._perform(self._detector.handle(StatusReceived(node_id), self._now_mono_ms()))
        self._wake.set()

    def status(
        self,
        node_id: str,
        replicas: tuple[ReplicaReport, ...],
        reachable: Mapping[str, bool],
        condition: NodeCondition,
    ) -> None:
        """Apply a node's status."""
        event = StatusReceived(node_id, reachable)
        self._perform(self._detector.handle(event, self._now_mono_ms()))
        memory = self._memory.of(node_id)
        quota_before = memory.condition.disk_quota_bytes if memory.condition else 0
        if self._orders.heard(node_id, condition):
            self._wake.set()
        if condition.disk_quota_bytes != quota_before:
            self._placement.look_again()
        if (memory.replicas, memory.accelerators) != (replicas, condition.accelerators):
            memory.replicas, memory.accelerators = replicas, condition.accelerators
            memory.replicas_unwritten = True
            self._wake.set()

    def demand(self, node_id: str, told: Iterable[tuple[str, float]]) -> None:
        """Take what clients ask of a node: requests per minute by deployment."""
        self._memory.demand.heard(node_id, told, self._now_mono_ms())

    def changed(self) -> None:
        """Make a pass soon: something that is no row of a table has changed."""
        self._wake.set()

    def gone(self, node_id: str) -> None:
        """Apply the end of a node's only stream."""
        self._perform(self._detector.handle(StreamEnded(node_id), self._now_mono_ms()))

    def resumed(self, node_id: str) -> None:
        """Forget the faults that a node reported before an operator resumed it."""
        self._orders.resumed(node_id)
        self._wake.set()

    def ordered(self, node_id: str) -> None:
        """Make a pass soon: a node's order has changed."""
        self._wake.set()

    def plan_again(self) -> None:
        """Plan soon although no row has changed, as after a change of manifests."""
        self._placement.look_again()
        self._wake.set()

    def alarm(self, node_id: str, alarm: Alarm) -> None:
        """Record an alarm in log, audit and metrics."""
        self._counters.alarms += 1
        _log.error(
            "alarm kind=%s node=%s type=%s %s", alarm.kind, node_id, alarm.type, alarm.detail
        )
        detail = f"type={alarm.type} {alarm.detail}"
        self._note(AuditNote("coordinator", f"alarm.{alarm.kind}", f"node/{node_id}", detail))

    def twin(self, node_id: str, twin: Twin) -> None:
        """Record in log, audit and metrics that a second host uses a node's identity."""
        self._counters.alarms += 1
        _log.error(
            "alarm kind=twin node=%s addresses=%s: two hosts use one identity, the second is"
            " refused",
            *(node_id, twin),
        )
        self._note(AuditNote("coordinator", "alarm.twin", f"node/{node_id}", f"addresses={twin}"))

    def lift_freeze(self) -> None:
        """End a freeze: an operator confirms that the missing nodes are gone."""
        self._perform(self._detector.handle(FreezeLifted(), self._now_mono_ms()))

    def table_changed(self, resource_type: ResourceType, scope: str) -> None:
        """Make a pass soon; a callback of ``Store.on_change``."""
        if resource_type in (ResourceType.TOPOLOGY, ResourceType.DEPLOYMENTS):
            self._wake.set()
        elif (memory := self._memory.find(scope)) is not None:  # what it should hold
            memory.replicas_unwritten = True
            self._wake.set()

    async def run(self) -> None:
        """Tick and write until cancelled."""
        while True:
            await self.step()
            try:
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def step(self) -> None:
        """Tick and make one pass; what fails is repeated by the next."""
        self._wake.clear()
        self._sync_listed()
        self._perform(self._detector.handle(Ticked(), self._now_mono_ms()))
        try:
            await self._write_differences()
        except StoreUnavailable as error:
            self._counters.passes_deferred += 1
            if not self._deferred:
                _log.error("what the fleet reports cannot be written, it waits: %s", error)
            self._deferred = True
        except Exception:
            # A bug in one pass must not end health for the whole fleet.
            _log.exception("supervisor pass failed")
        else:
            if self._deferred:
                _log.warning("what the fleet reports is written again")
            self._deferred = False

    async def _write_differences(self) -> None:
        """Write what differs between memory and the tables. Raises: StoreUnavailable."""
        await self._write_registrations()
        self._sync_listed()
        await self._write_health()
        await self._orders.write()
        await self._rollouts.write()
        await self._placement.write()
        await self._write_replicas()
        while self._notes:
            note = self._notes[0]
            await self._store.write(audit.append(note))
            if self._notes and self._notes[0] is note:
                self._notes.popleft()
        await self._compact()

    def _sync_listed(self) -> None:
        """Begin leases of newly listed nodes; drop leases and memory of removed ones."""
        nodes, now_mono_ms = self._store.view().nodes, self._now_mono_ms()
        leased = self._detector.healths()
        for node_id in nodes.keys() - leased.keys():
            listed = NodeListed(node_id, nodes[node_id].health, returning=self._returning)
            self._detector.handle(listed, now_mono_ms)
        self._returning = False
        for node_id in leased.keys() - nodes.keys():
            self._detector.handle(NodeUnlisted(node_id), now_mono_ms)
        self._memory.keep_only(self._store.node_records().keys())

    async def _write_registrations(self) -> None:
        waiting = [one for one in self._memory.items() if one[1].registration is not None]
        for node_id, memory in waiting[:MAX_REGISTRATIONS_PER_PASS]:
            registration = memory.registration
            if registration is None:
                continue
            try:
                await self._store.write(nodes.register(registration))
            except StoreUnavailable:
                raise
            except EdgeForgeError as error:
                # A registration that cannot be written must not delay the health of all others.
                _log.warning("registration dropped node=%s: %s", node_id, error)
            if memory.registration is registration:
                memory.registration = None
            memory.replicas_unwritten = True
            self._placement.look_again()
        if len(waiting) > MAX_REGISTRATIONS_PER_PASS:
            self._wake.set()

    async def _write_health(self) -> None:
        listed = self._store.view().nodes
        changed = {
            node_id: health
            for node_id, health in self._detector.healths().items()
            if node_id in listed and listed[node_id].health is not health
        }
        if changed:
            await self._store.write(nodes.set_health(changed))

    async def _write_replicas(self) -> None:
        view = self._store.view()
        before = self._registry_seen
        models_changed = view.models is not before[0] or view.adapters is not before[1]
        self._registry_seen = view.models, view.adapters
        again = frozenset(self._memory.claims.expired(self._now_mono_ms()))
        looked_at: list[NodeMemory] = []
        upserts: list[Replica] = []
        removes: list[tuple[str, str]] = []
        rows: dict[str, dict[str, Replica]] | None = None
        for node_id, memory in sorted(self._memory.items(), key=lambda one: one[0]):
            is_due = models_changed or memory.replicas_unwritten or node_id in again
            if memory.replicas is None or not is_due:
                continue
            looked_at.append(memory)
            memory.replicas_unwritten = False
            record = self._store.node_record(node_id)
            if record is None or record.profile is None:
                continue
            rows = _rows_by_node(view) if rows is None else rows
            changes = self._changes(node_id, memory, record.profile, rows.get(node_id, {}))
            upserts += changes.upserts
            removes += changes.removes
        if upserts or removes:
            try:
                await self._store.write(replicas.report(upserts, removes))
            except BaseException:
                for memory in looked_at:
                    memory.replicas_unwritten = True
                raise

    def _changes(
        self,
        node_id: str,
        memory: NodeMemory,
        told: EngineProfile,
        rows: Mapping[str, Replica],
    ) -> ReplicaChanges:
        """Return what of a node's report changes its rows: what was ordered, within bounds."""
        claims, models = self._memory.claims, self._store.view().models
        desired, reported = self._placement.desired_of(node_id), memory.replicas or ()
        judged = claims.judge(node_id, reported, desired, self._now_mono_ms())
        self._counters.unordered_replicas = claims.dropped
        if judged.announce:
            detail = f"claims {', '.join(judged.unordered[:3])} that it was not ordered"
            _log.warning("claim dropped node=%s: %s", node_id, detail)
            self._note(AuditNote("coordinator", "node.claim", f"node/{node_id}", detail))
        profiles, flattered = {}, ""
        for model in {one.model for one in judged.accepted} & models.keys():
            bounds = profile_bounds(memory.accelerators, models[model])
            profiles[model] = bounded_profile(told, bounds)
            flattered = flattered or flattery(told, profiles[model])
        if claims.flatters(node_id, flattered):
            _log.warning("profile bounded node=%s: claims %s", node_id, flattered)
        return replica_changes(node_id, judged.accepted, profiles, rows)

    async def _compact(self) -> None:
        now_mono_ms = self._now_mono_ms()
        if now_mono_ms - self._compacted_mono_ms < _COMPACTION_INTERVAL_MS:
            return
        self._compacted_mono_ms = now_mono_ms
        older_than_unix_ms = self._now_unix_ms() - int(self._history_max_age_ms)
        dropped = await self._store.compact(older_than_unix_ms=older_than_unix_ms)
        _log.info("change log compacted dropped=%d", dropped)

    def _perform(self, commands: Sequence[Command]) -> None:
        """Log and audit the detector's commands; the next pass writes the health."""
        for command in commands:
            match command:
                case SetHealth(node_id, health):
                    _log.info("health node=%s now=%s", node_id, health)
                case RaiseFreezeAlarm(missing, fleet):
                    self._counters.alarms += 1
                    detail = f"missing={missing} fleet={fleet}"
                    _log.error("alarm kind=fleet_frozen %s: no node is given up meanwhile", detail)
                    self._note(AuditNote("coordinator", "alarm.fleet_frozen", "fleet", detail))
                case ClearFreezeAlarm(missing, by_operator):
                    detail = f"missing={missing} by_operator={by_operator}"
                    _log.warning("fleet no longer frozen %s", detail)
                    self._note(AuditNote("coordinator", "fleet.unfrozen", "fleet", detail))
            self._wake.set()

    def _note(self, note: AuditNote) -> None:
        self._notes.append(note)
        self._wake.set()


def _is_known(registration: NodeRegistration, record: NodeRecord | None, node: Node | None) -> bool:
    """Return whether a node's registration equals its record, so that no write is needed."""
    return (
        record is not None
        and node is not None
        and record.engine_kind == registration.engine_kind
        and record.agent_version == registration.agent_version
        and record.profile == registration.profile
        and record.hardware == registration.hardware
        and node.peer_host == registration.peer_host
        and node.peer_port == registration.peer_port
        and node.client_url == registration.client_url
    )


def _rows_by_node(view: FleetView) -> dict[str, dict[str, Replica]]:
    """Return node id -> model or ``model+adapter`` -> replica."""
    rows: dict[str, dict[str, Replica]] = {}
    for by_node in (*view.replicas.values(), *view.adapter_replicas.values()):
        for node_id, replica in by_node.items():
            rows.setdefault(node_id, {})[replica_key(replica.model, replica.adapter)] = replica
    return rows
