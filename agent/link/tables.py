"""The tables this agent holds and the view made of them, changed in slices of two milliseconds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import TypeVar

from protos.domain.errors import InvalidRequest
from protos.domain.fleet_view import FleetView, with_changes_steps
from protos.domain.resources import Resource, ResourceType
from protos.domain.routing_table import (
    Delta,
    Push,
    RefusalReason,
    Snapshot,
    Table,
    TableRefused,
    apply_steps,
    empty_table,
)
from protos.wire import decode_row

_log = logging.getLogger(__name__)

T = TypeVar("T")

#: Longest time the event loop is kept from its streams.
SLICE_MS = 2.0
#: Rows decoded between two looks at the clock.
_ROWS_PER_STEP = 64
#: Refusals of a type in a row after which an operator should look.
LOUD_AFTER_REFUSALS = 3

OnView = Callable[[FleetView, frozenset[ResourceType]], None]


class TableKeeper:
    """One table a type, the view of all of them, and what was refused."""

    def __init__(self, now_mono_ms: Callable[[], float], on_view: OnView) -> None:
        self._now_mono_ms = now_mono_ms
        self._on_view = on_view
        self.tables: dict[ResourceType, Table] = {kind: empty_table(kind) for kind in ResourceType}
        self.view = FleetView()
        self.refusals: dict[ResourceType, int] = dict.fromkeys(ResourceType, 0)
        self.last_refusal = ""
        #: Whether any table has ever been taken, from disk or from the coordinator.
        self.loaded = False

    async def apply(self, push: Push) -> Table:
        """Take a push and return the new table. Raises: TableRefused, with the old one kept."""
        try:
            table = await self._in_slices(apply_steps(self.tables[push.type], push))
            view = await self._in_slices(self._view_steps(push, table))
        except TableRefused as refused:
            self._count_refusal(push.type, refused)
            raise
        self.refusals[push.type] = 0
        self._take({push.type: table}, view)
        return table

    async def restore(self, tables: Iterable[Table]) -> None:
        """Take tables that were verified when they were read from disk. Raises: TableRefused."""
        view, taken = self.view, {}
        for table in tables:
            push = Snapshot(table.type, table.at, table.rows, table.digest)
            view = await self._in_slices(self._view_steps(push, table, view))
            taken[table.type] = table
        self._take(taken, view)

    def _take(self, tables: Mapping[ResourceType, Table], view: FleetView) -> None:
        self.tables.update(tables)
        self.view = view
        self.loaded = True
        self._on_view(view, frozenset(tables))

    def _view_steps(
        self, push: Push, new: Table, view: FleetView | None = None
    ) -> Generator[None, None, FleetView]:
        """Decode what changed and index it."""
        kind, old = push.type, self.tables[push.type]
        if isinstance(push, Delta):
            gone = [old.rows[key] for key in push.removes if key in old.rows]
            upserts: Mapping[str, bytes] = push.upserts
        else:
            gone = [row for key, row in old.rows.items() if key not in new.rows]
            upserts = {key: row for key, row in new.rows.items() if old.rows.get(key) != row}
        replaced = [old.rows[key] for key in upserts if key in old.rows]
        removed = yield from _decode_steps(kind, [*gone, *replaced])
        added = yield from _decode_steps(kind, list(upserts.values()))
        return (yield from with_changes_steps(view or self.view, removed, added))

    async def _in_slices(self, steps: Generator[None, None, T]) -> T:
        began = self._now_mono_ms()
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                result: T = stop.value
                return result
            if self._now_mono_ms() - began >= SLICE_MS:
                await asyncio.sleep(0)
                began = self._now_mono_ms()

    def _count_refusal(self, kind: ResourceType, refused: TableRefused) -> None:
        self.refusals[kind] += 1
        self.last_refusal = f"{kind}: {refused}"
        loud = self.refusals[kind] >= LOUD_AFTER_REFUSALS
        level = logging.ERROR if loud else logging.WARNING
        _log.log(
            level,
            "table refused, the last good one is kept type=%s in_a_row=%d reason=%s",
            kind,
            self.refusals[kind],
            refused,
        )


def _decode_steps(
    kind: ResourceType, payloads: list[bytes]
) -> Generator[None, None, list[Resource]]:
    """Decode rows; kinds of a newer version are passed over. Raises: TableRefused."""
    found = []
    for count, payload in enumerate(payloads, start=1):
        try:
            resource = decode_row(kind, payload)
        except InvalidRequest as error:
            raise TableRefused(RefusalReason.MALFORMED, error.message) from error
        if resource is not None:
            found.append(resource)
        if count % _ROWS_PER_STEP == 0:
            yield
    return found
