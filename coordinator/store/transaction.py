"""One write: state, rows, change log and audit note, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from coordinator.store import audit
from protos.domain.errors import TooLarge
from protos.domain.resources import Resource, ResourceType, resource_type, row_key
from protos.domain.routing_table import MAX_ROW_BYTES
from protos.wire import decode_row, encode_row

if TYPE_CHECKING:
    import sqlite3

    from coordinator.store.cached_tables import CachedTables
    from coordinator.store.records import AuditNote

T = TypeVar("T")

_Value = str | int | float | bytes | None


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the change log; ``payload`` is None for a removed row."""

    seq: int
    type: ResourceType
    scope: str
    key: str
    payload: bytes | None = field(repr=False)


class Transaction:
    """The operations of a write. Used in the writer's thread, within one database transaction."""

    def __init__(self, connection: sqlite3.Connection, now_unix_ms: int) -> None:
        self.connection = connection
        self.now_unix_ms = now_unix_ms
        self.changes: list[Change] = []
        #: Applied to the cached tables once this has been committed.
        self.effects: list[Callable[[CachedTables], None]] = []
        #: Changes up to here were dropped by this transaction.
        self.compacted_to_seq = 0

    def execute(self, sql: str, values: Sequence[_Value] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        return self.connection.execute(sql, values)

    def exists(self, sql: str, values: Sequence[_Value] = ()) -> bool:
        """Return whether a query has any result."""
        return self.execute(sql, values).fetchone() is not None

    def get(self, rows_of: ResourceType, key: str, scope: str = "") -> Resource | None:
        """Return one row's resource."""
        payload = self._payload(rows_of, key, scope)
        return None if payload is None else decode_row(rows_of, payload)

    def keys(self, rows_of: ResourceType, prefix: str = "", scope: str = "") -> list[str]:
        """Return the keys that start with ``prefix``, in order."""
        found = self.execute(
            "SELECT key FROM rows WHERE type = ? AND scope = ? AND substr(key, 1, ?) = ?"
            " ORDER BY key",
            (rows_of.value, scope, len(prefix), prefix),
        )
        return [str(key) for (key,) in found]

    def put(self, resource: Resource, scope: str = "") -> bool:
        """Write a row; return whether that changed a byte. Raises: TooLarge."""
        rows_of, key, payload = resource_type(resource), row_key(resource), encode_row(resource)
        if len(payload) > MAX_ROW_BYTES:
            raise TooLarge(f"{key!r} is {len(payload)} bytes, agents accept {MAX_ROW_BYTES}")
        if self._payload(rows_of, key, scope) == payload:
            return False
        seq = self._log(rows_of, scope, key, payload)
        self.execute(
            "INSERT INTO rows (type, scope, key, payload, seq) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (type, scope, key)"
            " DO UPDATE SET payload = excluded.payload, seq = excluded.seq",
            (rows_of.value, scope, key, payload, seq),
        )
        return True

    def remove(self, rows_of: ResourceType, key: str, scope: str = "") -> bool:
        """Remove a row; return whether it was there."""
        if self._payload(rows_of, key, scope) is None:
            return False
        self._log(rows_of, scope, key, None)
        self.execute(
            "DELETE FROM rows WHERE type = ? AND scope = ? AND key = ?",
            (rows_of.value, scope, key),
        )
        return True

    def note(self, note: AuditNote) -> None:
        """Append to the audit."""
        audit.append(self.connection, note, self.now_unix_ms)

    def _payload(self, rows_of: ResourceType, key: str, scope: str) -> bytes | None:
        row = self.execute(
            "SELECT payload FROM rows WHERE type = ? AND scope = ? AND key = ?",
            (rows_of.value, scope, key),
        ).fetchone()
        return None if row is None else bytes(row[0])

    def _log(self, rows_of: ResourceType, scope: str, key: str, payload: bytes | None) -> int:
        seq = int(
            self.execute(
                "INSERT INTO changes (type, scope, key, payload, at_unix_ms)"
                " VALUES (?, ?, ?, ?, ?) RETURNING seq",
                (rows_of.value, scope, key, payload, self.now_unix_ms),
            ).fetchone()[0]
        )
        self.execute(
            "INSERT INTO tables (type, scope, version, floor) VALUES (?, ?, ?, 0)"
            " ON CONFLICT (type, scope) DO UPDATE SET version = excluded.version",
            (rows_of.value, scope, seq),
        )
        self.changes.append(Change(seq, rows_of, scope, key, payload))
        return seq


def run_transaction(
    connection: sqlite3.Connection,
    now_unix_ms: int,
    change: Callable[[Transaction], T],
    note: AuditNote | None,
) -> tuple[T, Transaction]:
    """Return what ``change`` returned, and the transaction, which has been committed."""
    transaction = Transaction(connection, now_unix_ms)
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = change(transaction)
        if note is not None:
            transaction.note(note)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result, transaction
