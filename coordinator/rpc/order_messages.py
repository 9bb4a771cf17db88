"""Conversion of node orders to administration's messages."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from coordinator.core.node_orders import OrderKind
from protos.v1 import admin_pb2

if TYPE_CHECKING:
    from coordinator.core.node_orders import Move, NodeOrder

_KINDS = {
    OrderKind.CORDON: admin_pb2.NODE_ORDER_KIND_CORDON,
    OrderKind.DRAIN: admin_pb2.NODE_ORDER_KIND_DRAIN,
    OrderKind.RETIRE: admin_pb2.NODE_ORDER_KIND_RETIRE,
}


def order_to_wire(order: NodeOrder, ready: Collection[Move]) -> admin_pb2.NodeOrder:
    """Return a node's order as a message, with the state of each move."""
    return admin_pb2.NodeOrder(
        kind=_KINDS[order.kind],
        phase=order.phase or "",
        by=order.by,
        reason=order.reason,
        at_unix_ms=order.at_unix_ms,
        moves=[
            admin_pb2.ReplicaMove(
                deployment=move.deployment,
                model=move.model,
                node_id=move.node_id,
                ready=move in ready,
                reason=move.reason,
            )
            for move in order.moves
        ],
    )
