"""The routing tables in memory, as agents should hold them; updated after each commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.store.history import History
from coordinator.store.zone_tables import ZoneTables, zone_of_scope
from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.resources import Resource, ResourceType
from protos.domain.routing_table import Delta, Table, TableDraft, TableVersion, table_of
from protos.wire import decode_row

if TYPE_CHECKING:
    from coordinator.store.history import Change

_DELTA_CACHE = 256

_NO_HISTORY = History()

TableName = tuple[ResourceType, str]


class Projection:
    """All tables and the view of the shared ones. Replaced at commits, never changed in place."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self._tables: dict[TableName, Table] = {}
        self._histories: dict[TableName, History] = {}
        #: Deltas to the present tables, cached because many agents need the same one.
        self._deltas: dict[tuple[TableName, int], Delta | None] = {}
        self.view = FleetView()
        self._zones = ZoneTables()

    @property
    def names(self) -> tuple[TableName, ...]:
        """The tables that were ever written."""
        return tuple(self._tables)

    def table(self, resource_type: ResourceType, scope: str) -> Table:
        """Return a table; one that was never written is empty at version 0.

        ``scope`` of the credentials: ``zone_scope`` of a zone, for what its agents get of them.
        """
        zone = zone_of_scope(scope) if resource_type is ResourceType.CREDENTIALS else None
        if zone is not None:
            return self._zones.table(self.table(resource_type, ""), zone)
        found = self._tables.get((resource_type, scope))
        if found is not None:
            return found
        return Table(resource_type, TableVersion(self.epoch, 0), {}, 0, 0)

    def delta_since(self, resource_type: ResourceType, scope: str, version: int) -> Delta | None:
        """Return the push from ``version`` to the present table, None if changes are missing."""
        name = (resource_type, scope)
        if resource_type is ResourceType.CREDENTIALS and zone_of_scope(scope) is not None:
            whole = self.delta_since(resource_type, "", version)
            return self._zones.delta(whole, self.table(*name))
        if (name, version) not in self._deltas:
            history = self._histories.get(name, _NO_HISTORY)
            if len(self._deltas) >= _DELTA_CACHE:
                self._deltas.clear()
            self._deltas[name, version] = history.delta(self.table(*name), version)
        return self._deltas[name, version]

    def follow(self, changes: Sequence[Change]) -> tuple[TableName, ...]:
        """Apply the rows among ``changes``, in their order; return the tables that changed."""
        for change in changes:
            if isinstance(change.type, ResourceType):
                name = (change.type, change.scope)
                self._histories.setdefault(name, History()).append(change.seq, change.key)
        return self._put(changes)

    def start(self, name: TableName, version: int, floor: int, rows: Mapping[str, bytes]) -> None:
        """Take a table whose changes up to ``floor`` are in no delta; cost is one hash a row."""
        resource_type, scope = name
        self._tables[name] = table_of(resource_type, TableVersion(self.epoch, version), rows)
        self._histories[name] = History(floor)
        if not scope:
            decoded = _decoded(resource_type, rows.values())
            self.view = with_changes(self.view, (), decoded)
            if resource_type is ResourceType.CREDENTIALS:
                self._zones.follow((), decoded)

    def remember(self, name: TableName, seq: int, key: str) -> None:
        """Add a change to the history of a table that holds it."""
        self._histories[name].append(seq, key)

    def _put(self, changes: Sequence[Change]) -> tuple[TableName, ...]:
        by_table: dict[TableName, dict[str, Change]] = {}
        for change in changes:
            if isinstance(change.type, ResourceType):
                by_table.setdefault((change.type, change.scope), {})[change.key] = change
        removes: list[Resource] = []
        upserts: list[Resource] = []
        for name, last in by_table.items():
            old = self.table(*name)
            self._tables[name] = _advanced(old, last)
            if not name[1]:
                removes += _decoded(name[0], (old.rows.get(key) for key in last))
                upserts += _decoded(name[0], (change.payload for change in last.values()))
        if by_table:
            self._deltas.clear()
            self.view = with_changes(self.view, removes, upserts)
            self._zones.follow(removes, upserts)
        return tuple(by_table)

    def forget(self, seq: int) -> None:
        """Drop the changes up to ``seq``, after a compaction."""
        self._deltas.clear()
        for history in self._histories.values():
            history.forget(seq)


def _advanced(table: Table, changes: Mapping[str, Change]) -> Table:
    draft = TableDraft(table)
    for key, change in changes.items():
        if change.payload is None:
            draft.remove(key)
        else:
            draft.put(key, change.payload)
    version = max(change.seq for change in changes.values())
    return draft.finish(replace(table.at, version=version))


def _decoded(resource_type: ResourceType, payloads: Iterable[bytes | None]) -> list[Resource]:
    return [
        resource
        for payload in payloads
        if payload is not None and (resource := decode_row(resource_type, payload)) is not None
    ]
