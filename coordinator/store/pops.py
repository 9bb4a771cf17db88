"""POPs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.errors import NotFound
from protos.domain.resources import Pop, ResourceType

if TYPE_CHECKING:
    from coordinator.store.transaction import Transaction, Write


def put(pop: Pop) -> Write[None]:
    """Create or replace a POP."""

    def write(tx: Transaction) -> None:
        tx.put(pop)

    return write


def require(tx: Transaction, pop_id: str) -> None:
    """Raises: NotFound."""
    if tx.get(ResourceType.TOPOLOGY, f"pop/{pop_id}") is None:
        raise NotFound(f"there is no POP {pop_id!r}", "`edgeforge pop create` adds one")
