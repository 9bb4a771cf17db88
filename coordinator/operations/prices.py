"""The price card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from coordinator.operations.acts import Act
from coordinator.operations.use_case import UseCases, use_case

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor
    from protos.domain.resources import Price


class Prices(UseCases):
    """Lines of the price card."""

    @use_case(Act.PRICE_LIST)
    async def list_all(self, actor: Actor) -> Sequence[Price]:
        """Return the price card."""
        return [price for _, price in sorted(self._store.view().prices.items())]
