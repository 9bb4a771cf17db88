"""The latest traces on this host's disk: a SQLite file with limits in rows and in bytes.

Not thread-safe: the writer has one connection, and each query opens its own.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlite_utils import Database

from protos.domain.errors import InvalidRequest
from protos.v1 import trace_pb2
from protos.wire import place_in_order, summary_to_wire, trace_to_wire

if TYPE_CHECKING:
    from protos.domain.trace import Trace

#: Most traces in one list.
MAX_LISTED = 500
DEFAULT_LISTED = 20
#: Size of a row beyond its messages: columns, indexes, page slack. Rounded up.
ROW_OVERHEAD_BYTES = 300
#: The file may grow to this multiple of the bytes kept: free pages and indexes.
FILE_SLACK = 2
_MIN_FILE_BYTES = 1024 * 1024
_BUSY_TIMEOUT_S = 1.0
_WAL_LIMIT_BYTES = 8 * 1024 * 1024
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_COLUMNS = {
    "seq": int,
    "trace_id": str,
    "deployment": str,
    "account": str,
    "missed": int,
    "began_unix_ms": float,
    "felt_ttft_ms": float,
    "size_bytes": int,
    "summary": bytes,
    "body": bytes,
}
_INSERT = (
    "INSERT INTO traces (trace_id, deployment, account, missed, began_unix_ms, felt_ttft_ms,"
    " size_bytes, summary, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
)
_ORDERS = {
    trace_pb2.TRACE_ORDER_UNSPECIFIED: "began_unix_ms",
    trace_pb2.TRACE_ORDER_NEWEST: "began_unix_ms",
    trace_pb2.TRACE_ORDER_SLOWEST: "felt_ttft_ms",
}

#: A trace as stored: its summary, and the whole message serialised.
Row = tuple[trace_pb2.TraceSummary, bytes]


def row_of(trace: Trace) -> Row:
    """Return ``trace`` as stored."""
    return summary_to_wire(trace), trace_to_wire(trace).SerializeToString()


class TraceRing:
    """An open file. Every method raises sqlite3.Error when the disk fails."""

    def __init__(self, path: Path, *, max_rows: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._connection = _connect(path)
        try:
            self._prepare()
            self.rows, self.kept_bytes = self._measure()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()

    def append(self, rows: list[Row]) -> None:
        """Store ``rows``, all or none, and delete the oldest over the limits."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany(_INSERT, map(_values, rows))
            count, kept_bytes = self._evict()
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        self.rows, self.kept_bytes = count, kept_bytes

    def _evict(self) -> tuple[int, int]:
        count, kept_bytes = self._measure()
        goes_on = True
        while goes_on and (count > self._max_rows or kept_bytes > self._max_bytes):
            oldest = self._connection.execute(
                "SELECT seq, size_bytes FROM traces ORDER BY seq LIMIT 200"
            ).fetchall()
            gone = None
            for seq, size_bytes in oldest:
                if count <= self._max_rows and kept_bytes <= self._max_bytes:
                    break
                count, kept_bytes, gone = count - 1, kept_bytes - size_bytes, seq
            goes_on = gone is not None
            self._connection.execute("DELETE FROM traces WHERE seq <= ?", (gone,))
        return count, kept_bytes

    def _measure(self) -> tuple[int, int]:
        count, kept_bytes = self._connection.execute("SELECT rows, bytes FROM held").fetchone()
        return count, kept_bytes

    def _prepare(self) -> None:
        database = Database(self._connection, execute_plugins=False)
        connection = self._connection
        if not database.table("traces").exists():
            connection.execute("BEGIN IMMEDIATE")
            traces = database.table("traces")
            traces.create(_COLUMNS, pk="seq", strict=True)
            traces.create_index(["trace_id"], unique=True)
            traces.create_index(["began_unix_ms", "trace_id"])
            traces.create_index(["felt_ttft_ms", "trace_id"])
            database.table("held").create({"rows": int, "bytes": int}, strict=True)
            connection.execute("INSERT INTO held VALUES (0, 0)")
            for when, sign, row in (("INSERT", "+", "new"), ("DELETE", "-", "old")):
                connection.execute(
                    f"CREATE TRIGGER held_{when} AFTER {when} ON traces BEGIN UPDATE held SET"
                    f" rows = rows {sign} 1, bytes = bytes {sign} {row}.size_bytes; END"
                )
            connection.execute("COMMIT")
        elif "account" not in database.table("traces").columns_dict:
            # Of an earlier version; what it holds is nobody's in a list by account.
            database.table("traces").add_column("account", str)
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
        file_bytes = max(_MIN_FILE_BYTES, FILE_SLACK * self._max_bytes)
        connection.execute(f"PRAGMA max_page_count = {file_bytes // page_bytes}")


def list_traces(path: Path, wanted: trace_pb2.TraceFilter) -> list[trace_pb2.TraceSummary]:
    """Return the summaries that match the filter, in its order.

    Raises: InvalidRequest for an unknown order or a limit over the bound, sqlite3.Error.
    """
    column = _ORDERS.get(wanted.order)
    if column is None or wanted.limit > MAX_LISTED:
        raise InvalidRequest(
            f"a list of {wanted.limit} traces in order {wanted.order} is impossible"
        )
    where, values = ["1"], list[object]()
    if wanted.deployment:
        where.append("deployment = ?")
        values.append(wanted.deployment)
    if wanted.account:
        where.append("account = ?")
        values.append(wanted.account)
    if wanted.missed:
        where.append("missed")
    if wanted.order == trace_pb2.TRACE_ORDER_SLOWEST:
        where.append("felt_ttft_ms >= 0")
    if wanted.HasField("after"):
        where.append(f"({column}, trace_id) < (?, ?)")
        values += [wanted.after.value, wanted.after.trace_id]
    values.append(wanted.limit or DEFAULT_LISTED)
    with _reading(path) as connection:
        found = connection.execute(
            f"SELECT summary FROM traces WHERE {' AND '.join(where)}"
            f" ORDER BY {column} DESC, trace_id DESC LIMIT ?",
            values,
        )
        return [trace_pb2.TraceSummary.FromString(summary) for (summary,) in found]


def find_trace(path: Path, trace_id: str) -> trace_pb2.Trace | None:
    """Return a trace by its id. Raises: sqlite3.Error."""
    with _reading(path) as connection:
        found = connection.execute("SELECT body FROM traces WHERE trace_id = ?", (trace_id,))
        row = found.fetchone()
    return trace_pb2.Trace.FromString(row[0]) if row else None


def is_damaged(error: sqlite3.Error) -> bool:
    """Return whether ``error`` means that the file is damaged."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def rename_damaged(path: Path) -> None:
    """Rename a damaged file; only the latest one is kept."""
    for suffix in ("", "-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        with contextlib.suppress(FileNotFoundError):
            beside.replace(path.with_name(path.name + ".damaged" + suffix))


def _values(row: Row) -> tuple[object, ...]:
    summary, body = row
    line = summary.SerializeToString()
    return (
        summary.trace_id,
        summary.deployment,
        summary.account,
        int(summary.missed),
        float(summary.began_unix_ms),
        place_in_order(summary, trace_pb2.TRACE_ORDER_SLOWEST)[0],
        len(line) + len(body) + ROW_OVERHEAD_BYTES,
        line,
        body,
    )


def _connect(path: Path) -> sqlite3.Connection:
    """Open ``path``, readable by its owner only."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # A power cut may lose the latest traces but does not damage the file.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S
    )
    try:
        yield connection
    finally:
        connection.close()
