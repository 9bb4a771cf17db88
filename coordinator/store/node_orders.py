"""Node orders, kept until the node is resumed, and the pins that a retirement moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from coordinator.store import deployments, nodes
from coordinator.store.facts import FactType, OrderOfNode

if TYPE_CHECKING:
    from coordinator.core.node_orders import NodeOrder
    from coordinator.store.transaction import Transaction, Write


def put(
    node_id: str, order: NodeOrder | None, *, pins: Mapping[str, Sequence[str]] | None = None
) -> Write[None]:
    """Set or delete a node's order, and ``pins`` in the same transaction. NotFound."""

    def write(tx: Transaction) -> None:
        nodes.require(tx, node_id)
        if order is None:
            tx.remove_fact(FactType.NODE_ORDER, node_id)
        else:
            tx.put_fact(OrderOfNode(node_id, order))
        deployments.set_pins(pins or {})(tx)

    return write
