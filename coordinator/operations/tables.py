"""Tables of the fleet, forced by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.operations.acts import Act
from coordinator.operations.use_case import UseCases, note_of, use_case
from coordinator.store import audit

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor
    from protos.domain.resources import ResourceType


class Tables(UseCases):
    """Tables that agents hold."""

    @use_case(Act.TABLE_FORCE, lambda resource_type: f"table/{resource_type}")
    async def force(self, actor: Actor, resource_type: ResourceType) -> int:
        """Push one table to all agents past their shrink guard; return how many agents."""
        note = note_of(actor, Act.TABLE_FORCE, f"table/{resource_type}")
        await self._store.write(audit.append(note))
        return await self._parts.force_table(resource_type)
