"""The routing tables in memory, as agents should hold them; updated after each commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from coordinator.store.changes import History, load_histories
from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.resources import Resource, ResourceType
from protos.domain.routing_table import Delta, Table, TableVersion, row_digest, table_of
from protos.wire import decode_row

if TYPE_CHECKING:
    import sqlite3

    from coordinator.store.transaction import Change

_MODULUS = 1 << 256
_DELTA_CACHE = 256

_NO_HISTORY = History()

TableName = tuple[ResourceType, str]


class Projection:
    """All tables and the view of the shared ones. Replaced at commits, never changed in place."""

    def __init__(
        self,
        epoch: int,
        fleet_id: str,
        tables: Mapping[TableName, Table],
        histories: dict[TableName, History],
    ) -> None:
        self.epoch = epoch
        self.fleet_id = fleet_id
        self._tables = dict(tables)
        self._histories = histories
        #: Deltas to the present tables, cached because many agents need the same one.
        self._deltas: dict[tuple[TableName, int], Delta | None] = {}
        self.view = FleetView()
        for (resource_type, scope), table in self._tables.items():
            if not scope:
                rows = _decoded(resource_type, table.rows.values())
                self.view = with_changes(self.view, (), rows)

    def table(self, resource_type: ResourceType, scope: str) -> Table:
        """Return a table; one that was never written is empty at version 0."""
        found = self._tables.get((resource_type, scope))
        if found is not None:
            return found
        return Table(resource_type, TableVersion(self.epoch, 0), {}, 0, 0)

    def delta_since(self, resource_type: ResourceType, scope: str, version: int) -> Delta | None:
        """Return the push from ``version`` to the present table, None if changes are missing."""
        name = (resource_type, scope)
        if (name, version) not in self._deltas:
            history = self._histories.get(name, _NO_HISTORY)
            if len(self._deltas) >= _DELTA_CACHE:
                self._deltas.clear()
            self._deltas[name, version] = history.delta(self.table(*name), version)
        return self._deltas[name, version]

    def publish(self, changes: Sequence[Change]) -> tuple[TableName, ...]:
        """Apply one commit's changes; return the tables that changed."""
        by_table: dict[TableName, dict[str, Change]] = {}
        for change in changes:
            name = (change.type, change.scope)
            by_table.setdefault(name, {})[change.key] = change
            self._histories.setdefault(name, History()).append(change.seq, change.key)
        removes: list[Resource] = []
        upserts: list[Resource] = []
        for name, last in by_table.items():
            old = self.table(*name)
            version = max(change.seq for change in last.values())
            self._tables[name] = _advanced(old, TableVersion(self.epoch, version), last.values())
            if not name[1]:
                removes += _decoded(name[0], (old.rows.get(key) for key in last))
                upserts += _decoded(name[0], (change.payload for change in last.values()))
        if by_table:
            self._deltas.clear()
            self.view = with_changes(self.view, removes, upserts)
        return tuple(by_table)

    def forget(self, seq: int) -> None:
        """Drop the changes up to ``seq``, after a compaction."""
        self._deltas.clear()
        for history in self._histories.values():
            history.forget(seq)


def load_projection(connection: sqlite3.Connection) -> Projection:
    """Read every table."""
    epoch = read_epoch(connection)
    rows: dict[TableName, dict[str, bytes]] = {}
    for type_, scope, key, payload in connection.execute(
        "SELECT type, scope, key, payload FROM rows"
    ):
        rows.setdefault((ResourceType(type_), scope), {})[key] = payload
    tables = {}
    for type_, scope, version in connection.execute("SELECT type, scope, version FROM tables"):
        name = (ResourceType(type_), scope)
        tables[name] = table_of(name[0], TableVersion(epoch, version), rows.get(name, {}))
    return Projection(epoch, read_fleet_id(connection), tables, load_histories(connection))


def read_epoch(connection: sqlite3.Connection) -> int:
    """Return the epoch that every table of this database is in."""
    return int(connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0])


def read_fleet_id(connection: sqlite3.Connection) -> str:
    """Return the random id of the fleet that this database belongs to."""
    found = connection.execute("SELECT value FROM meta WHERE key = 'fleet_id'").fetchone()
    return str(found[0])


def _advanced(table: Table, at: TableVersion, changes: Iterable[Change]) -> Table:
    rows = dict(table.rows)
    digest, size_bytes = table.digest, table.size_bytes
    for change in changes:
        gone = rows.pop(change.key, None)
        if gone is not None:
            digest -= row_digest(change.key, gone)
            size_bytes -= len(change.key) + len(gone)
        if change.payload is not None:
            rows[change.key] = change.payload
            digest += row_digest(change.key, change.payload)
            size_bytes += len(change.key) + len(change.payload)
    return Table(table.type, at, rows, digest % _MODULUS, size_bytes)


def _decoded(resource_type: ResourceType, payloads: Iterable[bytes | None]) -> list[Resource]:
    return [
        resource
        for payload in payloads
        if payload is not None and (resource := decode_row(resource_type, payload)) is not None
    ]
