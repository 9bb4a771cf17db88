"""The price card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator.store.transaction import Transaction, Write
    from protos.domain.resources import Price


def put(prices: Sequence[Price]) -> Write[None]:
    """Create or replace lines of the price card."""

    def write(tx: Transaction) -> None:
        for price in prices:
            tx.put(price)

    return write
