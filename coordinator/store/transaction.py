"""One write: rows, facts, change log and audit note, all or nothing.

The first statement that changes anything takes the log's seq, and is refused when another process
has become the writer since: rows are numbered in the order of their commits, without gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from protos.domain.errors import StoreUnavailable, TooLarge
from protos.domain.resources import Resource, ResourceType, resource_type, row_key
from protos.domain.routing_table import MAX_ROW_BYTES
from protos.wire import decode_row, encode_row

if TYPE_CHECKING:
    from coordinator.store.connection import Connection, Value
    from coordinator.store.facts import Fact, FactT, FactType, RowType

T = TypeVar("T")

#: A change that ``Store.write`` runs.
Write = Callable[["Transaction"], T]


class WriterFenced(StoreUnavailable):
    """Another process has become the writer of the database; this one never writes again."""

    def __init__(self) -> None:
        super().__init__(
            "another coordinator has taken over the database",
            "ask that one; this one must be stopped",
            retryable=False,
        )


class Transaction:
    """The operations of a write. Used in the writer's thread, within one database transaction."""

    def __init__(self, connection: Connection, writer_epoch: int | None, now_unix_ms: int) -> None:
        """``writer_epoch`` is None in a process that has not become the writer yet."""
        self._connection = connection
        self.now_unix_ms = now_unix_ms
        #: The epoch that this writes under.
        self.writer_epoch = writer_epoch
        #: Whether anything may have been changed.
        self.claimed = False
        #: The newest seq of the log, once claimed.
        self._seq = 0
        self._stored_seq = 0

    def query(self, sql: str, values: Sequence[Value] = ()) -> list[Any]:
        """Return the rows of a statement that changes nothing."""
        return self._connection.execute(sql, values).fetchall()

    def change(self, sql: str, values: Sequence[Value] = ()) -> int:
        """Run a statement on tables that are not in memory; return how many rows it changed."""
        self.claim(0)
        return self._connection.execute(sql, values).rowcount

    def exists(self, sql: str, values: Sequence[Value] = ()) -> bool:
        """Return whether a query has any result."""
        return self._connection.execute(sql, values).fetchone() is not None

    # Rows for agents.

    def get(self, rows_of: ResourceType, key: str, scope: str = "") -> Resource | None:
        """Return one row's resource."""
        payload = self._payload(rows_of, key, scope)
        return None if payload is None else decode_row(rows_of, payload)

    def keys(self, rows_of: RowType, prefix: str = "", scope: str = "") -> list[str]:
        """Return the keys that start with ``prefix``, in order."""
        return [str(key) for (key,) in self.query(*_range("key", rows_of, prefix, scope))]

    def put(self, resource: Resource, scope: str = "") -> bool:
        """Write a row; return whether that changed a byte. Raises: TooLarge, WriterFenced."""
        return self._put(resource_type(resource), scope, row_key(resource), encode_row(resource))

    def remove(self, rows_of: ResourceType, key: str, scope: str = "") -> bool:
        """Remove a row; return whether it was there. Raises: WriterFenced."""
        return self._remove(rows_of, scope, key)

    # Facts, which no agent is sent.

    def fact(self, kind: type[FactT], key: str) -> FactT | None:
        """Return one fact."""
        payload = self._payload(kind.TYPE, key, "")
        return None if payload is None else kind.decode(key, payload)

    def facts(self, kind: type[FactT]) -> list[FactT]:
        """Return every fact of a kind, in the order of their keys."""
        found = self.query(*_range("key, payload", kind.TYPE, "", ""))
        return [kind.decode(key, bytes(payload)) for key, payload in found]

    def put_fact(self, fact: Fact) -> bool:
        """Write a fact; return whether that changed a byte. Raises: TooLarge, WriterFenced."""
        return self._put(fact.TYPE, "", fact.key, fact.encode())

    def remove_fact(self, fact_type: FactType, key: str) -> bool:
        """Remove a fact; return whether it was there. Raises: WriterFenced."""
        return self._remove(fact_type, "", key)

    # The log.

    def claim(self, count: int) -> int:
        """Take ``count`` numbers of the log and return the last. Raises: WriterFenced.

        The first claim holds the log until this transaction ends. Only a process that has not
        written before may become the writer by it, and fences the one before it.
        """
        if not self.claimed:
            self._seq = self._stored_seq = self._first_claim(count)
            self.claimed = True
        else:
            self._seq += count
        return self._seq

    def settle(self) -> None:
        """Store how many numbers were taken; called once, before the commit."""
        if self._seq != self._stored_seq:
            self._connection.execute("UPDATE log SET seq = ?", (self._seq,))

    def _first_claim(self, count: int) -> int:
        if self.writer_epoch is None:
            taken = self._connection.execute(
                "UPDATE log SET seq = seq + ?, writer_epoch = writer_epoch + 1"
                " RETURNING seq, writer_epoch",
                (count,),
            ).fetchone()
        else:
            taken = self._connection.execute(
                "UPDATE log SET seq = seq + ? WHERE writer_epoch = ? RETURNING seq, writer_epoch",
                (count, self.writer_epoch),
            ).fetchone()
        if taken is None:
            raise WriterFenced
        seq, self.writer_epoch = taken
        return int(seq)

    def _put(self, rows_of: RowType, scope: str, key: str, payload: bytes) -> bool:
        if len(payload) > MAX_ROW_BYTES:
            raise TooLarge(f"{key!r} is {len(payload)} bytes, agents accept {MAX_ROW_BYTES}")
        if self._payload(rows_of, key, scope) == payload:
            return False
        seq = self._log(rows_of, scope, key, payload)
        self._connection.execute(
            "INSERT INTO rows (type, scope, key, payload, seq) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (type, scope, key)"
            " DO UPDATE SET payload = excluded.payload, seq = excluded.seq",
            (rows_of.value, scope, key, payload, seq),
        )
        return True

    def _remove(self, rows_of: RowType, scope: str, key: str) -> bool:
        if self._payload(rows_of, key, scope) is None:
            return False
        self._log(rows_of, scope, key, None)
        self._connection.execute(
            "DELETE FROM rows WHERE type = ? AND scope = ? AND key = ?",
            (rows_of.value, scope, key),
        )
        return True

    def _payload(self, rows_of: RowType, key: str, scope: str) -> bytes | None:
        row = self._connection.execute(
            "SELECT payload FROM rows WHERE type = ? AND scope = ? AND key = ?",
            (rows_of.value, scope, key),
        ).fetchone()
        return None if row is None else bytes(row[0])

    def _log(self, rows_of: RowType, scope: str, key: str, payload: bytes | None) -> int:
        seq = self.claim(1)
        self._connection.execute(
            "INSERT INTO changes (seq, type, scope, key, payload, at_unix_ms)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (seq, rows_of.value, scope, key, payload, self.now_unix_ms),
        )
        if isinstance(rows_of, ResourceType):
            self._connection.execute(
                "INSERT INTO tables (type, scope, version, floor) VALUES (?, ?, ?, 0)"
                " ON CONFLICT (type, scope) DO UPDATE SET version = excluded.version",
                (rows_of.value, scope, seq),
            )
        return seq


def _range(columns: str, rows_of: RowType, prefix: str, scope: str) -> tuple[str, tuple[str, ...]]:
    """Return the query for all keys that start with ``prefix``, as a range of the primary key."""
    sql = f"SELECT {columns} FROM rows WHERE type = ? AND scope = ?"
    values: tuple[str, ...] = (rows_of.value, scope)
    if prefix:
        sql += " AND key >= ? AND key < ?"
        values += (prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1))
    return sql + " ORDER BY key", values
