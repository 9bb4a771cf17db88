"""What POPs cost an hour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.core.pop_costs import CostChange, PopCost, with_change
from coordinator.store import pops
from coordinator.store.pop_cost_facts import PopCostRow

if TYPE_CHECKING:
    from coordinator.store.transaction import Transaction, Write


def put(pop_id: str, change: CostChange) -> Write[PopCost]:
    """Write down a POP's cost from a moment on. Raises: NotFound."""

    def write(tx: Transaction) -> PopCost:
        pops.require(tx, pop_id)
        row = tx.fact(PopCostRow, pop_id)
        cost = with_change(row.cost if row else None, pop_id, change)
        tx.put_fact(PopCostRow(cost))
        return cost

    return write
