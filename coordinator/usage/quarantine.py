"""Records that were not counted: listed, and counted or dismissed by an admin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.usage.group import RawRow
from protos.domain.errors import Conflict, InvalidRequest, NotFound
from protos.v1 import usage_pb2
from protos.wire.usage import decode_record
from protos.wire.usage_counters import counters_of

if TYPE_CHECKING:
    import sqlite3

    from coordinator.usage.database import UsageDatabase
    from coordinator.usage.ingest import Ingest

#: Settled in one call.
MAX_SETTLED = 1_000
MAX_PAGE = 1_000
_COUNTABLE = ("record", "counters")
_MINUTE_MS = 60_000
_COLUMNS = (
    "id, node, spool, seq, last_seq, kind, reason, payload, arrived_unix_ms, state, settled_by,"
    " settled_unix_ms"
)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row of the quarantine; ``payload`` is the record as it came."""

    id: int
    node: str
    spool: str
    seq: int
    last_seq: int
    kind: str
    reason: str
    payload: bytes
    arrived_unix_ms: int
    state: str
    settled_by: str
    settled_unix_ms: int


def listed(
    state: str, after_id: int, limit: int
) -> Callable[[sqlite3.Connection], list[Quarantined]]:
    """Return a question for rows behind ``after_id``; an empty ``state``: all."""

    def question(connection: sqlite3.Connection) -> list[Quarantined]:
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM quarantine WHERE id > ? AND (? = '' OR state = ?)"
            " ORDER BY id LIMIT ?",
            (after_id, state, state, limit),
        )
        return [Quarantined(*row) for row in rows]

    return question


async def dismiss(database: UsageDatabase, ids: Sequence[int], by: str, now_unix_ms: int) -> None:
    """Never count the rows of ``ids``. Raises: NotFound, Conflict, InvalidRequest."""

    def change(connection: sqlite3.Connection) -> None:
        _settle(connection, _held(connection, ids), "dismissed", by, now_unix_ms)

    await database.write(change)


async def release(
    database: UsageDatabase, ingest: Ingest, ids: Sequence[int], by: str, now_unix_ms: int
) -> None:
    """Count the rows of ``ids`` as if they had just arrived.

    Raises: NotFound, Conflict; InvalidRequest for one that holds nothing to count.
    """
    rows = await database.read(lambda connection: _held(connection, ids))
    if bad := [row for row in rows if row.kind not in _COUNTABLE]:
        raise InvalidRequest(
            f"{bad[0].id} is {bad[0].kind}: there is no record to count", "dismiss it"
        )
    records = [(row, decode_record(row.payload)) for row in rows if row.kind == "record"]
    counters = [
        counters_of(usage_pb2.UsageCounters.FromString(row.payload), now_unix_ms)
        for row in rows
        if row.kind == "counters"
    ]

    def change(connection: sqlite3.Connection) -> None:
        _settle(connection, _held(connection, ids), "released", by, now_unix_ms)
        for row, record in records:
            (spool_id,) = connection.execute(
                "SELECT id FROM spools WHERE node = ? AND spool = ?", (row.node, row.spool)
            ).fetchone()
            record.began_unix_ms = min(record.began_unix_ms, now_unix_ms)
            connection.execute(
                "INSERT INTO raw VALUES (?, ?, ?, ?, ?, ?, ?)",
                RawRow(
                    now_unix_ms // _MINUTE_MS,
                    spool_id,
                    row.seq,
                    record.account,
                    record.began_unix_ms,
                    0,
                    row.payload,
                ),
            )

    await ingest.add([record for _, record in records], counters, change)


def _held(connection: sqlite3.Connection, ids: Sequence[int]) -> list[Quarantined]:
    """Raises: NotFound, Conflict, InvalidRequest."""
    if not 0 < len(ids) <= MAX_SETTLED or len(set(ids)) != len(ids):
        raise InvalidRequest(f"name 1 to {MAX_SETTLED} different rows", "see usage quarantine")
    found = []
    for one in ids:
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM quarantine WHERE id = ?", (one,)
        ).fetchone()
        if row is None:
            raise NotFound(f"nothing in quarantine is {one}", "see usage quarantine")
        quarantined = Quarantined(*row)
        if quarantined.state != "held":
            raise Conflict(
                f"{one} was {quarantined.state} by {quarantined.settled_by}",
                "leave it out",
                retryable=False,
            )
        found.append(quarantined)
    return found


def _settle(
    connection: sqlite3.Connection,
    rows: Sequence[Quarantined],
    state: str,
    by: str,
    now_unix_ms: int,
) -> None:
    connection.executemany(
        "UPDATE quarantine SET state = ?, settled_by = ?, settled_unix_ms = ? WHERE id = ?",
        [(state, by, now_unix_ms, row.id) for row in rows],
    )
