"""Carries out orders for nodes: derives intents and moves pins, one step a pass."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.core.node_orders import (
    BY_HEALTH,
    Move,
    NodeCondition,
    NodeOrder,
    OrderKind,
    Phase,
    intent_of,
    order_after_faults,
    retirement_after,
)
from coordinator.core.retirement import Site, plan_moves
from coordinator.store import node_orders, nodes
from coordinator.store.records import AuditNote
from protos.domain.resources import NodeHealth, NodeIntent, ReplicaState, Residency

if TYPE_CHECKING:
    from coordinator.fleet.memory import FleetMemory
    from coordinator.fleet.placement_writer import PlacementWriter
    from coordinator.store.store import Store

_log = logging.getLogger(__name__)


class NodeOrderController:
    """Called by the supervisor only; each ``write`` makes at most one step for each node."""

    def __init__(
        self,
        store: Store,
        placement: PlacementWriter,
        memory: FleetMemory,
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._placement = placement
        self._memory = memory
        self._now_unix_ms = now_unix_ms

    def heard(self, node_id: str, condition: NodeCondition) -> bool:
        """Store a node's condition; return whether it has changed."""
        memory = self._memory.of(node_id)
        if memory.condition == condition:
            return False
        memory.condition = condition
        return True

    def resumed(self, node_id: str) -> None:
        """Forget the faults that a node has reported: its agent has just cleared them."""
        memory = self._memory.find(node_id)
        if memory is not None and memory.condition is not None:
            memory.condition = replace(memory.condition, faults=())

    async def write(self) -> None:
        """Update orders and intents from the conditions. Raises: StoreUnavailable."""
        for node_id, memory in self._memory.items():
            if memory.condition is not None:
                await self._follow_faults(node_id, memory.condition)
        for node_id, order in list(self._store.node_orders().items()):
            if order.kind is OrderKind.RETIRE and order.phase is not Phase.RETIRED:
                await self._follow_retirement(node_id, order)
        await self._write_intents()

    def _condition(self, node_id: str) -> NodeCondition | None:
        memory = self._memory.find(node_id)
        return None if memory is None else memory.condition

    async def _follow_faults(self, node_id: str, condition: NodeCondition) -> None:
        order = self._store.node_orders().get(node_id)
        wanted = order_after_faults(order, condition.faults, self._now_unix_ms())
        if wanted is None or wanted is order or node_id not in self._store.node_records():
            return
        _log.error("node drained node=%s: %s", node_id, wanted.reason)
        note = AuditNote(BY_HEALTH, "node.drain", f"node/{node_id}", wanted.reason)
        await self._store.write(node_orders.put(node_id, wanted), note)

    async def _follow_retirement(self, node_id: str, order: NodeOrder) -> None:
        moves = order.moves
        if order.phase is Phase.MOVING:
            moves = plan_moves(self._placement.fleet(), self._sites(), node_id, order.moves)
        node = self._store.view().nodes.get(node_id)
        condition = self._condition(node_id)
        after = retirement_after(
            order,
            moves,
            all_ready=all(self.is_ready(move) for move in moves),
            engine_in_flight=None if condition is None else condition.engine_in_flight,
            dead=node is None or node.health is NodeHealth.DEAD,
            now_unix_ms=self._now_unix_ms(),
        )
        if after == order:
            return
        pins = self._pins_after(node_id, after)
        detail = f"phase={after.phase} " + " ".join(
            f"{move.deployment}->{move.node_id or 'nowhere'}" for move in after.moves
        )
        _log.info("retirement node=%s %s", node_id, detail)
        note = AuditNote("coordinator", "node.retire", f"node/{node_id}", detail)
        await self._store.write(node_orders.put(node_id, after, pins=pins), note)

    def _pins_after(self, node_id: str, order: NodeOrder) -> dict[str, tuple[str, ...]]:
        """Return the pins that change: targets are added first, the node's own removed last."""
        pins: dict[str, tuple[str, ...]] = {}
        placements = self._store.placements()
        for move in order.moves:
            pinned = placements.get(move.deployment, ())
            if pinned and move.node_id and move.node_id not in pinned:
                pins[move.deployment] = (*pinned, move.node_id)
        if order.phase is Phase.RETIRED:
            for name, node_ids in placements.items():
                if node_id in node_ids:
                    kept = pins.get(name, node_ids)
                    pins[name] = tuple(other for other in kept if other != node_id)
        return pins

    def is_ready(self, move: Move) -> bool:
        """Return whether the move's target serves the model already, or has it on disk."""
        view = self._store.view()
        replica = view.replicas.get(move.model, {}).get(move.node_id)
        node = view.nodes.get(move.node_id)
        return (
            replica is not None
            and (
                replica.state is ReplicaState.READY
                or (replica.state is ReplicaState.COLD and replica.residency is Residency.DISK)
            )
            and node is not None
            and node.intent is NodeIntent.ACTIVE
            and node.health is NodeHealth.READY
        )

    def _sites(self) -> dict[str, Site]:
        view = self._store.view()
        return {
            node_id: Site(pop.id, pop.tier, pop.zone, node.health is NodeHealth.READY)
            for node_id, node in view.nodes.items()
            if (pop := view.pops.get(node.pop_id)) is not None
        }

    async def _write_intents(self) -> None:
        orders = self._store.node_orders()
        changed = {}
        for node_id, node in self._store.view().nodes.items():
            condition = self._condition(node_id)
            intent, reason = intent_of(orders.get(node_id), condition, node.intent)
            if intent is not node.intent or (
                reason != node.intent_reason and (condition is not None or node_id in orders)
            ):
                changed[node_id] = (intent, reason)
        if changed:
            await self._store.write(nodes.set_intent(changed))
