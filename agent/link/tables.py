"""The tables this agent holds and the view made of them, applied in slices of a millisecond."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from agent.core.samples import Sample, Samples
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
    digest_to_bytes,
    empty_table,
)
from protos.wire import decode_row

_log = logging.getLogger(__name__)

T = TypeVar("T")

#: Longest time that applying a push blocks the event loop.
SLICE_MS = 1.0
#: Rows decoded, or compared, between two readings of the clock.
_ROWS_PER_STEP = 64
_COMPARED_PER_STEP = 1_024
#: Rows from which a push creates enough objects to start a garbage collection of milliseconds.
BULK_ROWS = 4_096
#: Refusals of a type in a row after which they are logged as errors.
LOUD_AFTER_REFUSALS = 3

OnViewChanged = Callable[[FleetView, frozenset[ResourceType]], None]


class TableKeeper:
    """One table for each resource type, the view of all of them, and refused pushes."""

    def __init__(self, now_mono_ms: Callable[[], float], on_view_changed: OnViewChanged) -> None:
        self._now_mono_ms = now_mono_ms
        self._on_view_changed = on_view_changed
        self.tables: dict[ResourceType, Table] = {kind: empty_table(kind) for kind in ResourceType}
        self.view = FleetView()
        self.refusals: dict[ResourceType, int] = dict.fromkeys(ResourceType, 0)
        self.last_refusal = ""
        #: Whether any table was taken since the start, from disk or from the coordinator.
        self.loaded = False

    async def apply(self, push: Push) -> Table:
        """Apply a push and return the new table. Raises: TableRefused, keeping the old one."""
        rows = push.rows if isinstance(push, Snapshot) else push.upserts
        try:
            with _collector_paused(len(rows)):
                table = await self.in_slices(apply_steps(self.tables[push.type], push))
                view = await self.in_slices(self._view_steps(push, table))
        except TableRefused as refused:
            self._count_refusal(push.type, refused)
            raise
        self.refusals[push.type] = 0
        self._replace({push.type: table}, view)
        return table

    async def restore(self, tables: Iterable[Table]) -> None:
        """Take over tables that were read and verified from disk. Raises: TableRefused."""
        view, taken = self.view, {}
        for table in tables:
            push = Snapshot(table.type, table.at, table.rows, table.digest)
            view = await self.in_slices(self._view_steps(push, table, view))
            taken[table.type] = table
        self._replace(taken, view)

    def missing(self) -> Iterable[str]:
        """Yield that no table has been taken yet, if so."""
        if not self.loaded:
            yield "a routing table, from disk or from the coordinator"

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield rows, version and refusals of each table."""
        for kind, table in self.tables.items():
            labels = (("type", kind.value),)
            yield Sample(
                "edgeforge_table_rows", "Rows held.", float(len(table.rows)), labels=labels
            )
            yield Sample(
                "edgeforge_table_version", "Version held.", float(table.at.version), labels=labels
            )
            yield Sample(
                "edgeforge_table_refusals_in_a_row",
                "Pushes refused since the last accepted one.",
                float(self.refusals[kind]),
                labels=labels,
            )

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return the version of each table, and why a push was last refused."""
        return {
            "tables": {kind.value: self._table_status(kind) for kind in ResourceType},
            "last_refusal": self.last_refusal,
        }

    def _table_status(self, kind: ResourceType) -> dict[str, object]:
        table = self.tables[kind]
        return {
            "epoch": table.at.epoch,
            "version": table.at.version,
            "rows": len(table.rows),
            "digest": digest_to_bytes(table.digest).hex(),
            "refusals_in_a_row": self.refusals[kind],
        }

    def _replace(self, tables: Mapping[ResourceType, Table], view: FleetView) -> None:
        self.tables.update(tables)
        self.view = view
        self.loaded = True
        self._on_view_changed(view, frozenset(tables))

    def _view_steps(
        self, push: Push, new: Table, view: FleetView | None = None
    ) -> Generator[None, None, FleetView]:
        """Decode the changed rows and index them."""
        kind, old = push.type, self.tables[push.type]
        upserts: Mapping[str, bytes]
        if isinstance(push, Delta):
            gone = [old.rows[key] for key in push.removes if key in old.rows]
            upserts = push.upserts
        else:
            gone, upserts = yield from _compare_steps(old.rows, new.rows)
        replaced = [old.rows[key] for key in upserts if key in old.rows]
        removed = yield from _decode_steps(kind, [*gone, *replaced])
        added = yield from _decode_steps(kind, list(upserts.values()))
        return (yield from with_changes_steps(view or self.view, removed, added))

    async def in_slices(self, steps: Generator[None, None, T]) -> T:
        """Run ``steps`` to their end, yielding to the event loop after each SLICE_MS."""
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


@contextmanager
def _collector_paused(rows: int) -> Iterator[None]:
    """Pause the garbage collector for a large push: rows are kept and form no cycles."""
    if rows < BULK_ROWS or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _compare_steps(
    old: Mapping[str, bytes], new: Mapping[str, bytes]
) -> Generator[None, None, tuple[list[bytes], dict[str, bytes]]]:
    """Return the removed rows, and the new or changed ones."""
    gone, upserts = [], {}
    for count, (key, row) in enumerate(old.items(), start=1):
        if key not in new:
            gone.append(row)
        if count % _COMPARED_PER_STEP == 0:
            yield
    for count, (key, row) in enumerate(new.items(), start=1):
        if old.get(key) != row:
            upserts[key] = row
        if count % _COMPARED_PER_STEP == 0:
            yield
    return gone, upserts


def _decode_steps(
    kind: ResourceType, payloads: list[bytes]
) -> Generator[None, None, list[Resource]]:
    """Decode rows, skipping kinds that this version does not know. Raises: TableRefused."""
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
