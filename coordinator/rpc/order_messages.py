"""Conversion of node orders between administration's messages and domain values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.core.node_orders import NodeOrder, OrderKind, Phase
from protos.domain.errors import Conflict, InvalidRequest
from protos.domain.resources import ReplicaState
from protos.v1 import admin_pb2

if TYPE_CHECKING:
    from protos.domain.fleet_view import FleetView
    from protos.v1 import fleet_pb2

_MAX_REASON_CHARS = 200

_KINDS = {
    OrderKind.CORDON: admin_pb2.NODE_ORDER_KIND_CORDON,
    OrderKind.DRAIN: admin_pb2.NODE_ORDER_KIND_DRAIN,
    OrderKind.RETIRE: admin_pb2.NODE_ORDER_KIND_RETIRE,
}
_KINDS_FROM_WIRE = {number: kind for kind, number in _KINDS.items()}


def order_of(request: admin_pb2.OrderNodeRequest, *, by: str, now_unix_ms: int) -> NodeOrder:
    """Return the order that a request describes. Raises: InvalidRequest."""
    kind = _KINDS_FROM_WIRE.get(request.kind)
    if kind is None:
        raise InvalidRequest("the order is none of cordon, drain, retire, resume")
    reason = request.reason
    if len(reason) > _MAX_REASON_CHARS or not reason.isprintable():
        raise InvalidRequest(
            f"the reason is not one line of at most {_MAX_REASON_CHARS} characters"
        )
    if request.force and kind is not OrderKind.RETIRE:
        raise InvalidRequest("only a retirement can be forced")
    phase = Phase.MOVING if kind is OrderKind.RETIRE else None
    return NodeOrder(kind, by, reason, now_unix_ms, phase, force=request.force)


def order_to_wire(order: NodeOrder, view: FleetView) -> admin_pb2.NodeOrder:
    """Return a node's order as a message, with the state of each move."""

    def is_ready(model: str, node_id: str) -> bool:
        replica = view.replicas.get(model, {}).get(node_id)
        return replica is not None and replica.state is ReplicaState.READY

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
                ready=is_ready(move.model, move.node_id),
                reason=move.reason,
            )
            for move in order.moves
        ],
    )


def resume_refused(node_id: str, resumption: fleet_pb2.Resumption) -> Conflict:
    """Return the error that says which fault prevents a resume."""
    standing = "; ".join(fault.detail for fault in resumption.standing[:5])
    return Conflict(
        f"node {node_id!r} is not well: {standing}",
        "mend it; a fault counts as gone when it was not seen for half a minute",
        retryable=False,
    )
