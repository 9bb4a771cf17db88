"""Nodes: what is known of them, orders for them, their removal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.node_orders import NodeOrder, OrderKind, Phase
from coordinator.core.push_session import Holding
from coordinator.fleet.table_scopes import table_scope
from coordinator.operations.acts import Act
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import node_orders, nodes
from protos.domain.errors import Conflict, InvalidRequest, NotFound
from protos.domain.ids import check_node_id
from protos.domain.resources import ReplicaState, ResourceType

if TYPE_CHECKING:
    from coordinator.core.node_orders import Move
    from coordinator.core.peer_dials import DialResult
    from coordinator.fleet.live import LiveNode
    from coordinator.operations.actor import Actor
    from coordinator.store.records import NodeRecord
    from protos.domain.resources import Node

_MAX_REASON_CHARS = 200
#: Code of the refusal to remove the last node that a deployment is pinned to.
LAST_PIN = "last_pin"


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One enrolled node: its record, its row, its last report, its order."""

    record: NodeRecord
    #: None until the node has connected once.
    node: Node | None
    #: None unless the node has reported since the coordinator started.
    live: LiveNode | None
    order: NodeOrder | None
    #: The moves of the order whose target serves the model already.
    ready_moves: frozenset[Move]
    #: None until another node has dialled its peer address.
    dial: DialResult | None
    dial_age_s: float
    #: The tables that the node should hold.
    current: Mapping[ResourceType, Holding]


class Nodes(UseCases):
    """Enrolled nodes."""

    @use_case(Act.NODE_LIST)
    async def list_all(self, actor: Actor) -> Sequence[NodeStatus]:
        """Return every enrolled node by name, with its last report."""
        return [self._status(record) for _, record in sorted(self._store.node_records().items())]

    @use_case(Act.NODE_REMOVE, named("node"))
    async def remove(self, actor: Actor, node_id: str, *, force: bool = False) -> None:
        """Remove a node from every table, which also revokes its certificate.

        Raises: NotFound; Conflict, unless forced, for the last node that a deployment is pinned to:
        unpinned, it may be placed on any node.
        """
        check_node_id(node_id)
        last_of = sorted(
            name for name, pins in self._store.placements().items() if pins == (node_id,)
        )
        if last_of and not force:
            raise Conflict(
                f"{node_id} is the only node that {', '.join(last_of)} is pinned to: removed, the"
                " pin goes and any node may serve it",
                f"edgeforge node replace {node_id} OTHER carries the pins over; --force removes",
                retryable=False,
                code=LAST_PIN,
            )
        note = note_of(actor, Act.NODE_REMOVE, f"node/{node_id}")
        await self._store.write(nodes.remove(node_id), note)

    @use_case(Act.NODE_REPLACE, named("node"))
    async def replace(self, actor: Actor, old_id: str, new_id: str) -> Sequence[str]:
        """Give a node's pins to another enrolled one and remove it, in one transaction.

        The order of the old node goes with it: it was about that host. Returns the deployments
        whose pins have changed. Raises: NotFound, InvalidRequest.
        """
        self._enrolled(old_id)
        self._enrolled(new_id)
        if old_id == new_id:
            raise InvalidRequest("a node cannot replace itself")
        note = note_of(actor, Act.NODE_REPLACE, f"node/{old_id}", f"by={new_id}")
        return await self._store.write(nodes.replace_by(old_id, new_id), note)

    @use_case(Act.NODE_CORDON, named("node"))
    async def cordon(self, actor: Actor, node_id: str, reason: str) -> NodeStatus:
        """Let a node serve on without new replicas. Raises: NotFound, InvalidRequest."""
        return await self._order(actor, Act.NODE_CORDON, node_id, OrderKind.CORDON, reason)

    @use_case(Act.NODE_DRAIN, named("node"))
    async def drain(self, actor: Actor, node_id: str, reason: str) -> NodeStatus:
        """Let running streams end and send new requests elsewhere. Raises: as ``cordon``."""
        return await self._order(actor, Act.NODE_DRAIN, node_id, OrderKind.DRAIN, reason)

    @use_case(Act.NODE_RETIRE, named("node"))
    async def retire(
        self, actor: Actor, node_id: str, reason: str, *, force: bool = False
    ) -> NodeStatus:
        """Move a node's replicas, then drain it; forced: even without a target for each."""
        return await self._order(
            actor, Act.NODE_RETIRE, node_id, OrderKind.RETIRE, reason, force=force
        )

    @use_case(Act.NODE_RESUME, named("node"))
    async def resume(self, actor: Actor, node_id: str) -> NodeStatus:
        """Delete a node's order, if its agent reports no fault. Raises: NotFound, Conflict."""
        record = self._enrolled(node_id)
        live = self._parts.live.live_node(node_id)
        if live is not None and live.connected:
            if standing := await self._parts.agents.resume(node_id):
                raise Conflict(
                    f"node {node_id!r} is not well: {'; '.join(standing[:5])}",
                    "mend it; a fault counts as gone when it was not seen for half a minute",
                    retryable=False,
                )
            self._parts.on_resumed(node_id)
        note = note_of(actor, Act.NODE_RESUME, f"node/{node_id}")
        await self._store.write(node_orders.put(node_id, None), note)
        self._parts.on_ordered(node_id)
        return self._status(record)

    async def _order(
        self,
        actor: Actor,
        act: Act,
        node_id: str,
        kind: OrderKind,
        reason: str,
        *,
        force: bool = False,
    ) -> NodeStatus:
        record = self._enrolled(node_id)
        if len(reason) > _MAX_REASON_CHARS or not reason.isprintable():
            raise InvalidRequest(
                f"the reason is not one line of at most {_MAX_REASON_CHARS} characters"
            )
        phase = Phase.MOVING if kind is OrderKind.RETIRE else None
        order = NodeOrder(kind, str(actor), reason, self._parts.now_unix_ms(), phase, force=force)
        note = note_of(actor, act, f"node/{node_id}", reason)
        await self._store.write(node_orders.put(node_id, order), note)
        self._parts.on_ordered(node_id)
        return self._status(record)

    def _enrolled(self, node_id: str) -> NodeRecord:
        """Raises: InvalidRequest, NotFound."""
        record = self._store.node_record(check_node_id(node_id))
        if record is None:
            raise NotFound(f"no node {node_id!r} is enrolled", "`edgeforge node ls` shows them")
        return record

    def _status(self, record: NodeRecord) -> NodeStatus:
        node_id, view = record.node_id, self._store.view()
        order = self._store.node_orders().get(node_id)
        tables = {
            one: self._store.table(one, table_scope(self._store, one, node_id))
            for one in ResourceType
        }

        def is_ready(move: Move) -> bool:
            replica = view.replicas.get(move.model, {}).get(move.node_id)
            return replica is not None and replica.state is ReplicaState.READY

        dials = self._parts.dials
        dial = dials.result(node_id)
        return NodeStatus(
            record=record,
            dial=dial,
            dial_age_s=0.0 if dial is None else dials.age_s(dial),
            node=view.nodes.get(node_id),
            live=self._parts.live.live_node(node_id),
            order=order,
            ready_moves=frozenset(filter(is_ready, order.moves if order else ())),
            current={one: Holding(table.at, table.digest) for one, table in tables.items()},
        )
