"""Usage, as operators and, of their own account, customers read it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.operations.acts import Act
from coordinator.operations.use_case import UseCases, note_of, use_case
from coordinator.store import audit
from coordinator.usage.quarantine import MAX_PAGE, dismiss, listed, release
from coordinator.usage.reports import sums_by
from protos.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor
    from coordinator.usage.exports import LineFilter, UsageExport
    from coordinator.usage.lines import UsageLine
    from coordinator.usage.quarantine import Quarantined
    from coordinator.usage.reports import UsageQuery, UsageRow

#: The subject of the audit.
_QUARANTINE = "usage/quarantine"
_STATES = ("", "held", "released", "dismissed")


class UsageReports(UseCases):
    """What was used."""

    @use_case(Act.USAGE_READ)
    async def sums(self, actor: Actor, query: UsageQuery) -> Sequence[UsageRow]:
        """Return sums by group. An account gets its own, whatever it asks for."""
        if actor.account_id:
            query = replace(query, account=actor.account_id)
        return await self._parts.usage_db.read(sums_by(query))

    @use_case(Act.USAGE_EXPORT)
    async def export(self, actor: Actor, wanted: LineFilter) -> AsyncIterator[Sequence[UsageLine]]:
        """Return every request's line, some at a time. An account gets its own."""
        if actor.account_id:
            wanted = replace(wanted, account=actor.account_id)
        return self._parts.usage_exports.lines(wanted)

    @use_case(Act.USAGE_EXPORTS)
    async def exports(self, actor: Actor) -> Sequence[UsageExport]:
        """Return what has moved to the blob store, oldest first."""
        return await self._parts.usage_exports.list_all()

    @use_case(Act.USAGE_QUARANTINE)
    async def quarantine(
        self, actor: Actor, state: str = "", after_id: int = 0, limit: int = 0
    ) -> Sequence[Quarantined]:
        """Return what was not counted, oldest first. Raises: InvalidRequest."""
        if state not in _STATES:
            raise InvalidRequest(f"no state {state!r}", "held, released or dismissed")
        return await self._parts.usage_db.read(
            listed(state, after_id, min(limit or MAX_PAGE, MAX_PAGE))
        )

    @use_case(Act.USAGE_SETTLE, lambda *args, **kwargs: _QUARANTINE)
    async def settle(self, actor: Actor, ids: Sequence[int], *, count: bool) -> None:
        """Count what is in quarantine, or never count it. Raises: NotFound, Conflict."""
        database, now_unix_ms = self._parts.usage_db, self._parts.now_unix_ms()
        if count:
            await release(database, self._parts.ingest, ids, str(actor), now_unix_ms)
        else:
            await dismiss(database, ids, str(actor), now_unix_ms)
        detail = f"{'released' if count else 'dismissed'} {','.join(map(str, ids))}"
        await self._store.write(
            audit.append(note_of(actor, Act.USAGE_SETTLE, _QUARANTINE, detail[:1_000]))
        )
