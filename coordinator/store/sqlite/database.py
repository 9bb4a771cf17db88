"""A database file with its threads: one that writes, one that reads, and the owner's lock."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from coordinator import clock
from coordinator.store.sqlite.backup import copy_database
from coordinator.store.sqlite.connection import DatabaseLock, check_ours, connect
from coordinator.store.sqlite.migrations import migrate
from coordinator.store.sqlite.transactions import Seat, load, run_transaction, take_seat
from coordinator.store.sqlite.worker import Worker
from protos.domain.errors import NotFound, StoreUnavailable

if TYPE_CHECKING:
    import sqlite3

    from coordinator.store.connection import Read
    from coordinator.store.memory import Memory, Tail
    from coordinator.store.records import AuditNote
    from coordinator.store.transaction import Write

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: Bytes that a probe writes: enough to show that the disk has space again.
_PROBE_CHARS = 65_536


class SqliteDatabase:
    """Runs transactions and queries. Made by ``open_database``."""

    def __init__(
        self,
        writer: Worker,
        reader: Worker,
        lock: DatabaseLock,
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._lock = lock
        self._seat = Seat()
        self._now_unix_ms = now_unix_ms

    @property
    def available(self) -> bool:
        """Whether the last write, or the last probe since, succeeded."""
        return self._writer.available

    async def start(self) -> Memory:
        """Become the writer and read everything. Raises: StoreUnavailable."""
        with contextlib.suppress(StoreUnavailable):
            # A database that cannot be written now is served from memory until it can be.
            await self._writer.run(lambda connection: take_seat(connection, self._seat))
        memory = await self._writer.run(lambda connection: load(connection, self._seat))
        await self._reader.start()
        return memory

    async def write(
        self,
        change: Write[T],
        note: AuditNote | None,
        publish: Callable[[Tail | Memory], None],
    ) -> T:
        """Commit ``change`` and its audit note in one transaction.

        ``publish`` gets what is new in the log on the event loop, in the order of the commits,
        before this returns, and also when the caller was cancelled meanwhile.
        Raises: StoreUnavailable, WriterFenced.
        """

        def work(connection: sqlite3.Connection) -> tuple[T, Tail | Memory | None]:
            return run_transaction(connection, self._seat, self._now_unix_ms(), change, note)

        def published(done: tuple[T, Tail | Memory | None]) -> None:
            if done[1] is not None:
                publish(done[1])

        result, _ = await self._writer.run(work, published)
        return result

    async def read(self, question: Read[T]) -> T:
        """Query the database in the reader thread. Raises: StoreUnavailable."""
        return await self._reader.run(question)

    async def backup(self, target: Path) -> None:
        """Write a consistent copy of the database to ``target``, which must not exist."""
        await self._reader.run(lambda connection: copy_database(connection, target))

    async def close(self) -> None:
        """Finish the queued work and release the file."""
        await self._reader.close()
        await self._writer.close()
        self._lock.release()


async def open_database(
    path: Path, *, now_unix_ms: Callable[[], int], must_exist: bool, busy_timeout_ms: int
) -> SqliteDatabase:
    """Lock and migrate the database at ``path``.

    Raises: NotFound, Conflict, ConfigInvalid, StoreUnavailable; see ``Store.open``.
    """
    lock = await asyncio.to_thread(_own, path, must_exist)
    writer, reader = (
        Worker(
            name,
            path,
            lambda read_only=read_only: connect(  # type: ignore[misc]
                path, read_only=read_only, busy_timeout_ms=busy_timeout_ms
            ),
            now_mono_ms=clock.now_mono_ms,
            probe=_probe_read if read_only else _probe_write,
        )
        for name, read_only in (("writer", False), ("reader", True))
    )
    database = SqliteDatabase(writer, reader, lock, now_unix_ms)
    try:
        await writer.start()
        applied = await writer.run(lambda connection: migrate(connection, now_unix_ms()))
    except BaseException:
        await database.close()
        raise
    if applied:
        _log.info("database migrated file=%s migrations=%s", path.name, ",".join(applied))
    return database


def _own(path: Path, must_exist: bool) -> DatabaseLock:
    there = path.exists()
    if must_exist and not there:
        raise NotFound(
            f"there is no database {path.name} in the state directory",
            "`edgeforge-coordinator init` makes one, `restore` brings a backup back",
        )
    lock = DatabaseLock(path)
    if there:
        try:
            check_ours(path)
        except BaseException:
            lock.release()
            raise
    return lock


def _probe_write(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO meta (key, value) VALUES ('probe', ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        ("." * _PROBE_CHARS,),
    )


def _probe_read(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
