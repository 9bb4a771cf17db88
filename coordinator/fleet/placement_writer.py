"""Plans what each node should hold when something has changed, and writes what differs."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.core.plan_input import PlanInput, PlanNode
from coordinator.core.planned_rows import PlanMove, RowMaker, moves_of, still_allowed
from coordinator.core.replica_plan import ReplicaPlan, Unplaced, plan_replicas
from coordinator.core.rollout import RolloutPhase
from coordinator.store import replicas
from protos.domain.resources import NodeHealth, Tier

if TYPE_CHECKING:
    from coordinator.core.node_orders import NodeOrder
    from coordinator.core.plan_input import PlanRules
    from coordinator.core.planned_rows import Desired
    from coordinator.core.rollout import Rollout
    from coordinator.fleet.desired_rows import DesiredRows
    from coordinator.fleet.memory import FleetMemory
    from coordinator.store.records import NodeRecord
    from coordinator.store.store import Store
    from protos.domain.resources import Adapter, Deployment, Model, Node

_log = logging.getLogger(__name__)

#: Demand is looked at so often; the plan follows it by minutes.
DEMAND_INTERVAL_MS = 10_000.0
#: Nodes whose rows are written in one pass, so that health does not wait for all of them.
MAX_WRITES_PER_PASS = 200
#: Fleets from this size are planned in a thread, and not again at once.
LARGE_FLEET = 200
#: A plan is made again after this many times of what the last one took.
_PAUSE_FACTOR = 10.0
#: Moves that are remembered for operators.
MAX_RECENT = 200


@dataclass(frozen=True, slots=True)
class _Seen:
    """The input of the last plan."""

    nodes: Mapping[str, Node]
    models: Mapping[str, Model]
    adapters: Mapping[str, Adapter]
    deployments: Mapping[str, Deployment]
    placements: dict[str, tuple[str, ...]]
    rollouts: dict[str, Rollout]
    retiring: frozenset[str]
    rules: PlanRules

    def is_same(self, other: _Seen) -> bool:
        """Compare by identity: indexes are replaced, never changed."""
        return (
            self.nodes is other.nodes
            and self.models is other.models
            and self.adapters is other.adapters
            and self.deployments is other.deployments
            and self.rules is other.rules
            and self.placements == other.placements
            and self.rollouts == other.rollouts
            and self.retiring == other.retiring
        )


@dataclass(frozen=True, slots=True)
class PlanShown:
    """The plan for operators: what waits where it is frozen, and what was moved lately."""

    fleet: PlanInput
    plan: ReplicaPlan
    pending: list[PlanMove]
    recent: list[tuple[int, PlanMove]] = field(default_factory=list)


class PlacementWriter:
    """Runs the planner; called by the supervisor only, but for what operators are shown."""

    def __init__(
        self,
        store: Store,
        desired: DesiredRows,
        memory: FleetMemory,
        *,
        now_mono_ms: Callable[[], float],
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._desired = desired
        self._memory = memory
        self._now_mono_ms = now_mono_ms
        self._now_unix_ms = now_unix_ms
        self._maker = RowMaker()
        self._seen: _Seen | None = None
        #: As ``_seen``, and kept when the plan is to be made again.
        self._planned: _Seen | None = None
        self._unplaced: frozenset[Unplaced] = frozenset()
        self._demand: dict[tuple[str, str], float] = {}
        self._demand_due_mono_ms = 0.0
        self._not_before_mono_ms = 0.0
        #: Rows of nodes that the last plan changes and no pass has written yet.
        self._unwritten: dict[str, dict[str, Desired]] = {}
        self._moves: dict[str, list[PlanMove]] = {}
        self._recent: deque[tuple[int, PlanMove]] = deque(maxlen=MAX_RECENT)
        #: POPs whose plan an operator has just applied although it is frozen there.
        self._applied: set[str] = set()

    @property
    def unplaced(self) -> int:
        """Number of placements that the last plan could not make."""
        return len(self._unplaced)

    def look_again(self) -> None:
        """Plan again although no row has changed, as after a change of a node's engine kind."""
        self._seen = None

    def apply(self, pop_ids: Iterable[str]) -> None:
        """Carry out the plan once at POPs where it is frozen."""
        self._applied |= set(pop_ids)
        self.look_again()

    def desired_of(self, node_id: str) -> Mapping[str, Desired]:
        """Return what ``node_id`` should hold, by model or ``model+adapter``."""
        return self._desired.of(node_id)

    def follows(self, deployment: str) -> bool:
        """Return whether the last plan knew what a deployment needs now, and is written."""
        if self._planned is None or self._unwritten:
            return False
        planned = self._planned.deployments.get(deployment)
        present = self._store.view().deployments.get(deployment)
        return _needs(planned) == _needs(present)

    def unplaced_of(self, deployment: str) -> list[str]:
        """Return why the last plan could not place a deployment everywhere it was asked for."""
        return [
            f"{one.node_id}: {one.reason}" if one.node_id else one.reason
            for one in sorted(self._unplaced, key=lambda one: one.node_id)
            if one.deployment == deployment
        ]

    def shown(self) -> PlanShown:
        """Return the plan as it would be made now. Cost: a plan."""
        fleet = self.fleet()
        plan = plan_replicas(fleet)
        return PlanShown(fleet, plan, moves_of(fleet, plan), list(self._recent))

    async def write(self) -> None:
        """Plan if the input has changed, and write what differs. Raises: StoreUnavailable."""
        await self._plan_if_due()
        for node_id in list(self._unwritten)[:MAX_WRITES_PER_PASS]:
            rows = self._unwritten[node_id]
            await self._store.write(replicas.set_desired(node_id, rows))
            self._desired.written(node_id, rows)
            del self._unwritten[node_id]
            self._log_moves(self._moves.pop(node_id, []))

    async def _plan_if_due(self) -> None:
        now_mono_ms = self._now_mono_ms()
        if now_mono_ms >= self._demand_due_mono_ms:
            self._demand_due_mono_ms = now_mono_ms + DEMAND_INTERVAL_MS
            self._follow_demand(now_mono_ms)
        seen = self._look()
        if self._seen is not None and self._seen.is_same(seen):
            return
        if self._unwritten or now_mono_ms < self._not_before_mono_ms:
            return
        fleet, applied = self.fleet(), frozenset(self._applied)
        if len(fleet.nodes) < LARGE_FLEET:
            plan = plan_replicas(fleet)
        else:
            plan = await asyncio.to_thread(plan_replicas, fleet)
            took_ms = self._now_mono_ms() - now_mono_ms
            self._not_before_mono_ms = self._now_mono_ms() + took_ms * _PAUSE_FACTOR
        self._log_unplaced(frozenset(plan.unplaced))
        kept = [one for one in self._recent if one[1].node_id in fleet.nodes]
        self._recent = deque(kept, maxlen=MAX_RECENT)
        self._moves = {}
        for move in moves_of(fleet, plan):
            self._moves.setdefault(move.node_id, []).append(move)
        for node_id, draft in plan.nodes.items():
            before = self._desired.of(node_id)
            if draft.node.pop_id in fleet.rules.frozen and draft.node.pop_id not in applied:
                wanted = still_allowed(fleet, node_id, before)
                self._moves.pop(node_id, None)
            else:
                wanted = self._maker.rows(fleet, draft)
            if wanted != before:
                self._unwritten[node_id] = wanted
        self._applied -= applied
        self._seen = self._planned = seen

    def fleet(self) -> PlanInput:
        """Return the planner's input."""
        store, view = self._store, self._store.view()
        retiring = self._retiring()
        rollouts = self._rollouts()
        return PlanInput(
            nodes={
                node_id: self._node(node, store.node_record(node_id), node_id in retiring)
                for node_id, node in view.nodes.items()
            },
            models=view.models,
            manifests=store.manifests(),
            deployments=view.deployments,
            placements=store.placements(),
            adapters=view.adapters,
            runtimes=store.runtimes(),
            preparing=_in_phase(rollouts, RolloutPhase.PREPARING),
            leaving=_in_phase(rollouts, RolloutPhase.SETTLING),
            demand=self._demand,
            rules=store.plan_rules(),
        )

    def _node(self, node: Node, record: NodeRecord | None, retiring: bool) -> PlanNode:
        pop = self._store.view().pops.get(node.pop_id)
        rows, memory = self._desired.of(node.id), self._memory.find(node.id)
        condition = None if memory is None else memory.condition
        profile = None if record is None else record.profile
        return PlanNode(
            engine_kind=self._store.engine_kind(node.id),
            intent=node.intent,
            holds={key: row.hold for key, row in rows.items()},
            pop_id=node.pop_id,
            tier=pop.tier if pop else Tier.EDGE,
            zone=pop.zone if pop else "",
            alive=node.health is not NodeHealth.DEAD,
            retiring=retiring,
            hardware=record.hardware if record else PlanNode("", node.intent).hardware,
            disk_quota_bytes=condition.disk_quota_bytes if condition else 0,
            tokens_per_s=profile.tokens_per_s if profile else 0.0,
        )

    def _look(self) -> _Seen:
        view = self._store.view()
        return _Seen(
            view.nodes,
            view.models,
            view.adapters,
            view.deployments,
            dict(self._store.placements()),
            self._rollouts(),
            self._retiring(),
            self._store.plan_rules(),
        )

    def _rollouts(self) -> dict[str, Rollout]:
        deployments = self._store.view().deployments
        return {
            name: record.rollout
            for name, record in self._store.deploys().items()
            if record.rollout is not None and name in deployments
        }

    def _retiring(self) -> frozenset[str]:
        orders: Mapping[str, NodeOrder] = self._store.node_orders()
        return frozenset(one for one, order in orders.items() if order.phase is not None)

    def _follow_demand(self, now_mono_ms: float) -> None:
        view = self._store.view()
        pop_of = {node_id: node.pop_id for node_id, node in view.nodes.items()}
        demand = self._memory.demand.by_pop(pop_of, view.deployments, now_mono_ms)
        if demand != self._demand:
            self._demand = demand
            self.look_again()

    def _log_moves(self, moves: list[PlanMove]) -> None:
        for move in moves:
            self._recent.append((self._now_unix_ms(), move))
            _log.info(
                "planned node=%s name=%s hold=%s before=%s: %s",
                *(move.node_id, move.name, move.after, move.before, move.why),
            )

    def _log_unplaced(self, unplaced: frozenset[Unplaced]) -> None:
        for one in sorted(unplaced - self._unplaced, key=lambda one: (one.deployment, one.node_id)):
            _log.warning(
                "not placed deployment=%s node=%s: %s", one.deployment, one.node_id, one.reason
            )
        self._unplaced = unplaced


def _needs(deployment: Deployment | None) -> tuple[object, ...]:
    """Return the fields that say where a deployment is to be held."""
    if deployment is None:
        return ()
    one = deployment
    return one.model, one.adapter, one.runtime, one.pins, one.residency_zones


def _in_phase(rollouts: Mapping[str, Rollout], phase: RolloutPhase) -> dict[str, Deployment]:
    return {name: one.other for name, one in rollouts.items() if one.phase is phase}
