"""The usage database: a file with one thread that writes, one that reads, and an owner's lock.

It is apart from the coordinator's database, so that the volume of usage delays no table of the
fleet, and each is backed up in its own time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from coordinator import clock
from coordinator.store.sqlite.backup import copy_database
from coordinator.store.sqlite.connection import (
    DatabaseLock,
    as_unavailable,
    connect,
    transaction,
)
from coordinator.store.sqlite.worker import Worker
from coordinator.usage.migration import migrate
from coordinator.usage.migrations import ALL_MIGRATIONS

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: Bytes that a probe writes: enough to show that the disk has space again.
_PROBE_CHARS = 65_536


class UsageDatabase:
    """Runs transactions and queries of usage, prices and the ledger. Made by ``open``."""

    def __init__(self, path: Path, writer: Worker, reader: Worker, lock: DatabaseLock) -> None:
        self.path = path
        self._writer = writer
        self._reader = reader
        self._lock = lock
        self._one_apart = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path, now_unix_ms: Callable[[], int]) -> UsageDatabase:
        """Open the database at ``path``, made if it does not exist, and migrate it.

        Raises: Conflict when another process has it; ConfigInvalid when a newer version wrote it;
        StoreUnavailable.
        """
        lock = await asyncio.to_thread(DatabaseLock, path)
        writer, reader = (
            Worker(
                name,
                path,
                partial(connect, path, read_only=read_only),
                now_mono_ms=clock.now_mono_ms,
                probe=_probe_read if read_only else _probe_write,
            )
            for name, read_only in (("usage-writer", False), ("usage-reader", True))
        )
        database = cls(path, writer, reader, lock)
        try:
            await writer.start()
            applied = await writer.run(
                lambda connection: migrate(connection, ALL_MIGRATIONS, now_unix_ms())
            )
            await reader.start()
        except BaseException:
            await database.close()
            raise
        if applied:
            _log.info("usage database migrated migrations=%s", ",".join(applied))
        return database

    @property
    def available(self) -> bool:
        """Whether the last write, or the last probe since, succeeded."""
        return self._writer.available

    async def write(
        self,
        change: Callable[[sqlite3.Connection], T],
        published: Callable[[T], None] = lambda result: None,
    ) -> T:
        """Run ``change`` in one transaction in the writer's thread, and return its result.

        ``published(result)`` is called on the event loop after the commit, in the order of the
        commits, also when the caller was cancelled meanwhile. What ``change`` raises undoes it.
        Raises: StoreUnavailable.
        """
        return await self._writer.run(partial(in_transaction, change=change), published)

    async def run(
        self, job: Callable[[sqlite3.Connection], T], published: Callable[[T], None]
    ) -> T:
        """Run ``job`` in the writer's thread; it begins and ends transactions itself."""
        return await self._writer.run(job, published)

    async def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Query the database in the reader's thread, as of one moment. Raises: StoreUnavailable."""
        return await self._reader.run(partial(_as_of_now, question=question))

    async def read_apart(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Query the database, as of one moment, on a connection of its own.

        For what takes longer than others may wait for the reader; one at a time. Meanwhile the
        write-ahead log grows by what is written. Raises: StoreUnavailable.
        """
        return await self._apart(partial(_as_of_now, question=question))

    async def backup(self, target: Path) -> None:
        """Write a consistent copy of the database to ``target``, which must not exist."""
        await self._apart(lambda connection: copy_database(connection, target))

    async def _apart(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            try:
                with contextlib.closing(connect(self.path, read_only=True)) as connection:
                    return work(connection)
            except sqlite3.Error as error:
                raise as_unavailable(error, self.path) or error from error

        async with self._one_apart:
            return await asyncio.to_thread(run)

    async def close(self) -> None:
        """Finish the queued work and release the file."""
        await self._reader.close()
        await self._writer.close()
        self._lock.release()


def in_transaction(connection: sqlite3.Connection, change: Callable[[sqlite3.Connection], T]) -> T:
    """Run ``change`` between BEGIN and COMMIT; an error undoes it."""
    with transaction(connection):
        return change(connection)


def _as_of_now(connection: sqlite3.Connection, question: Callable[[sqlite3.Connection], T]) -> T:
    """Run ``question`` on one snapshot: what is committed meanwhile is in none of its answers."""
    connection.execute("BEGIN")
    try:
        return question(connection)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _probe_write(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO probe (id, filler) VALUES (1, ?)"
        " ON CONFLICT (id) DO UPDATE SET filler = excluded.filler",
        ("." * _PROBE_CHARS,),
    )


def _probe_read(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT count(*) FROM migrations").fetchone()
