"""The audit, as operators read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from coordinator.operations.acts import Act
from coordinator.operations.use_case import UseCases, use_case

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor
    from coordinator.store.records import AuditRecord

DEFAULT_AUDIT_ENTRIES = 100
MAX_AUDIT_ENTRIES = 1_000


class Audit(UseCases):
    """Entries of the audit."""

    @use_case(Act.AUDIT_LIST)
    async def list_newest(self, actor: Actor, limit: int = 0) -> Sequence[AuditRecord]:
        """Return the newest entries, newest first; 0: the default number."""
        return await self._store.audit_entries(
            min(limit or DEFAULT_AUDIT_ENTRIES, MAX_AUDIT_ENTRIES)
        )
