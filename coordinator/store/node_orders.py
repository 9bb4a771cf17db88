"""Node orders, kept until the node is resumed, and the pins that a retirement moves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from coordinator.store.nodes import require_node

if TYPE_CHECKING:
    from coordinator.core.node_orders import NodeOrder
    from coordinator.store.cached_tables import CachedTables
    from coordinator.store.transaction import Transaction


def put(tx: Transaction, node_id: str, order: NodeOrder | None) -> None:
    """Set the order of an enrolled node; None deletes it. Raises: NotFound."""
    require_node(tx, node_id)
    tx.execute("DELETE FROM node_orders WHERE node_id = ?", (node_id,))
    if order is not None:
        moves = json.dumps(
            [[move.deployment, move.model, move.node_id, move.reason] for move in order.moves]
        )
        tx.execute(
            "INSERT INTO node_orders (node_id, kind, ordered_by, reason, at_unix_ms, phase, moves,"
            " force) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                node_id,
                order.kind.value,
                order.by,
                order.reason,
                order.at_unix_ms,
                order.phase.value if order.phase else "",
                moves,
                int(order.force),
            ),
        )

    def keep(cached: CachedTables) -> None:
        if order is None:
            cached.orders.pop(node_id, None)
        else:
            cached.orders[node_id] = order

    tx.effects.append(keep)


def set_pins(tx: Transaction, pins: Mapping[str, Sequence[str]]) -> None:
    """Replace the pins of deployments."""
    ordered = {name: tuple(sorted(set(node_ids))) for name, node_ids in pins.items()}
    for name, node_ids in ordered.items():
        tx.execute("DELETE FROM placements WHERE deployment = ?", (name,))
        for node_id in node_ids:
            tx.execute(
                "INSERT INTO placements (deployment, node_id) VALUES (?, ?)", (name, node_id)
            )

    def keep(cached: CachedTables) -> None:
        cached.placements.update(ordered)

    tx.effects.append(keep)
