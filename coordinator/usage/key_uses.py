"""When keys were last used: a row for each key, written with the records that say so."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

    from coordinator.usage.database import UsageDatabase
    from protos.domain.usage_record import UsageRecord

_MINUTE_MS = 60_000
#: Keys whose newest minute is remembered, so that a busy key is written once a minute.
_MAX_REMEMBERED = 100_000
#: Keys asked for in one statement.
_AT_ONCE = 500
_UPSERT = (
    "INSERT INTO key_uses VALUES (?, ?) ON CONFLICT (key_id) DO UPDATE SET last_used_unix_ms ="
    " max(last_used_unix_ms, excluded.last_used_unix_ms)"
)


class KeyUseWriter:
    """Writes uses in the transaction that counts their records. In the writer's thread."""

    def __init__(self) -> None:
        self._written: OrderedDict[str, int] = OrderedDict()

    def note(self, connection: sqlite3.Connection, records: Iterable[UsageRecord]) -> None:
        """Write the newest minute of every key among ``records``, unless it is written already."""
        newest: dict[str, int] = {}
        for record in records:
            began_unix_ms = record.began_unix_ms
            if began_unix_ms > newest.get(record.key_id, 0):
                newest[record.key_id] = began_unix_ms
        rows = []
        for key_id, began_unix_ms in newest.items():
            minute_unix_ms = began_unix_ms - began_unix_ms % _MINUTE_MS
            if key_id and minute_unix_ms > self._written.get(key_id, 0):
                self._written[key_id] = minute_unix_ms
                self._written.move_to_end(key_id)
                rows.append((key_id, minute_unix_ms))
        if rows:
            connection.executemany(_UPSERT, rows)
        while len(self._written) > _MAX_REMEMBERED:
            self._written.popitem(last=False)

    def forget(self) -> None:
        """Forget what was written: the transaction was undone."""
        self._written.clear()


class RecordedKeyUses:
    """Implements ``operations.use_case.KeyUses`` over the usage database."""

    def __init__(self, database: UsageDatabase) -> None:
        self._database = database

    async def last_used_unix_ms(self, key_ids: Collection[str]) -> Mapping[str, int]:
        """Return the time of the last use of those keys that were used, to the minute."""
        wanted = list(key_ids)

        def question(connection: sqlite3.Connection) -> dict[str, int]:
            found: dict[str, int] = {}
            for first in range(0, len(wanted), _AT_ONCE):
                some = wanted[first : first + _AT_ONCE]
                marks = ", ".join("?" * len(some))
                found.update(
                    connection.execute(
                        f"SELECT key_id, last_used_unix_ms FROM key_uses WHERE key_id IN ({marks})",
                        some,
                    )
                )
            return found

        return await self._database.read(question)
