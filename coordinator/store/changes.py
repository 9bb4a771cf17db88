"""The append-only change log: its recent part in memory, and its compaction."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import TYPE_CHECKING

from protos.domain.resources import ResourceType
from protos.domain.routing_table import Delta, Table

if TYPE_CHECKING:
    import sqlite3

    from coordinator.store.transaction import Transaction

#: Changes of one table kept for deltas; an agent further behind gets a snapshot.
HISTORY_LIMIT = 8_192
#: Changes of all tables that are read at start.
LOADED_LIMIT = 200_000
#: Changes dropped in one transaction, so that a compaction delays no write for long.
COMPACTION_STEP = 5_000


class History:
    """The versions at which keys of one table changed, newest last, back to ``floor``."""

    def __init__(self, floor: int = 0) -> None:
        #: All changes after this version are kept.
        self.floor = floor
        self._seqs: list[int] = []
        self._keys: list[str] = []

    def append(self, seq: int, key: str) -> None:
        """Add the newest change; over the limit the older half is dropped."""
        self._seqs.append(seq)
        self._keys.append(key)
        if len(self._seqs) > HISTORY_LIMIT:
            self.forget(self._seqs[len(self._seqs) // 2])

    def forget(self, seq: int) -> None:
        """Drop the changes up to ``seq``."""
        gone = bisect_right(self._seqs, seq)
        if gone:
            self.floor = self._seqs[gone - 1]
            del self._seqs[:gone], self._keys[:gone]

    def delta(self, table: Table, version: int) -> Delta | None:
        """Return the push that leads from ``version`` to ``table``, None if changes are missing."""
        current = table.at.version
        if version > current or (version < self.floor and version != current):
            return None
        touched = dict.fromkeys(self._keys[bisect_right(self._seqs, version) :])
        return Delta(
            type=table.type,
            epoch=table.at.epoch,
            from_version=version,
            to_version=current,
            upserts={key: table.rows[key] for key in touched if key in table.rows},
            removes=tuple(key for key in touched if key not in table.rows),
            result_digest=table.digest,
        )


def load_histories(connection: sqlite3.Connection) -> dict[tuple[ResourceType, str], History]:
    """Return the recent history of every table."""
    (newest,) = connection.execute("SELECT coalesce(max(seq), 0) FROM changes").fetchone()
    cut = max(0, newest - LOADED_LIMIT)
    histories = {
        (ResourceType(type_), scope): History(max(floor, min(cut, version)))
        for type_, scope, version, floor in connection.execute(
            "SELECT type, scope, version, floor FROM tables"
        )
    }
    recent: Iterable[tuple[str, str, int, str]] = connection.execute(
        "SELECT type, scope, seq, key FROM changes WHERE seq > ? ORDER BY seq", (cut,)
    )
    for type_, scope, seq, key in recent:
        histories[ResourceType(type_), scope].append(seq, key)
    return histories


def compact_step(tx: Transaction, older_than_unix_ms: int) -> int:
    """Drop up to COMPACTION_STEP of the oldest changes and raise the floors; return how many."""
    (last,) = tx.execute(
        "SELECT max(seq) FROM (SELECT seq, at_unix_ms FROM changes ORDER BY seq LIMIT ?)"
        " AS oldest WHERE at_unix_ms < ?",
        (COMPACTION_STEP, older_than_unix_ms),
    ).fetchone()
    if last is None:
        return 0
    for type_, scope, floor in tx.execute(
        "SELECT type, scope, max(seq) FROM changes WHERE seq <= ? GROUP BY type, scope", (last,)
    ).fetchall():
        tx.execute(
            "UPDATE tables SET floor = ? WHERE type = ? AND scope = ?", (floor, type_, scope)
        )
    tx.compacted_to_seq = last
    return tx.execute("DELETE FROM changes WHERE seq <= ?", (last,)).rowcount
