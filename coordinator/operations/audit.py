"""The audit, as operators read it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.operations.acts import Act
from coordinator.operations.use_case import UseCases, use_case
from coordinator.store import audit

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor
    from coordinator.store.records import AuditPage, AuditQuery

DEFAULT_PAGE_ENTRIES = 100


class Audit(UseCases):
    """Entries of the audit."""

    @use_case(Act.AUDIT_LIST)
    async def list_page(self, actor: Actor, query: AuditQuery) -> AuditPage:
        """Return the newest entries that match, newest first; a limit of 0 is the default."""
        return await self._store.read(
            audit.page(replace(query, limit=query.limit or DEFAULT_PAGE_ENTRIES))
        )
