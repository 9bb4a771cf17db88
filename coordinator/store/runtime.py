"""The database runtime: a writer thread, a reader thread, and tables in memory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from coordinator import clock
from coordinator.store.backup import copy_database
from coordinator.store.commits import Seat, load, run_transaction, take_seat
from coordinator.store.database import DatabaseLock, check_ours, connect
from coordinator.store.migrations import migrate
from coordinator.store.transaction import WriterFenced
from coordinator.store.worker import Worker
from protos.domain.errors import NotFound, StoreUnavailable

if TYPE_CHECKING:
    import sqlite3

    from coordinator.store.backend import Read
    from coordinator.store.memory import Memory, Tail
    from coordinator.store.records import AuditNote
    from coordinator.store.transaction import Write
    from protos.domain.resources import ResourceType

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: Bytes that a probe writes: enough to show that the disk has space again.
_PROBE_CHARS = 65_536


class DatabaseRuntime:
    """Runs transactions and publishes what they changed. Made by ``open_runtime``."""

    def __init__(
        self,
        writer: Worker,
        reader: Worker,
        lock: DatabaseLock,
        seat: Seat,
        memory: Memory,
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._lock = lock
        self._seat = seat
        self._now_unix_ms = now_unix_ms
        self._callbacks: list[Callable[[ResourceType, str], None]] = []
        self._fenced = False
        self.memory = memory

    @property
    def available(self) -> bool:
        """Whether this is the writer and the last write, or the last probe since, succeeded."""
        return self._writer.available and not self._fenced

    def on_change(self, callback: Callable[[ResourceType, str], None]) -> None:
        """Call ``callback`` with every table that a commit changed."""
        self._callbacks.append(callback)

    async def write(self, change: Write[T], note: AuditNote | None = None) -> T:
        """Run ``change`` and its audit note in one transaction. Raises: StoreUnavailable."""

        def work(connection: sqlite3.Connection) -> tuple[T, Tail | Memory | None]:
            return run_transaction(connection, self._seat, self._now_unix_ms(), change, note)

        try:
            result, _ = await self._writer.run(work, lambda committed: self._publish(committed[1]))
        except WriterFenced:
            if not self._fenced:
                self._fenced = True
                _log.error("another coordinator writes to the database; this one no longer does")
            raise
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

    def _publish(self, news: Tail | Memory | None) -> None:
        if news is None:
            return
        for resource_type, scope in self.memory.take(news):
            for callback in self._callbacks:
                try:
                    callback(resource_type, scope)
                except Exception:
                    _log.exception("change callback failed type=%s", resource_type)


async def open_runtime(
    path: Path, *, now_unix_ms: Callable[[], int], must_exist: bool, busy_timeout_ms: int
) -> DatabaseRuntime:
    """Lock, migrate and load the database at ``path``.

    Raises: NotFound, Conflict, ConfigInvalid, StoreUnavailable; see ``Store.open``.
    """
    lock = await asyncio.to_thread(_own, path, must_exist)
    workers = [
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
    ]
    writer, reader = workers
    try:
        await writer.start()
        applied = await writer.run(lambda connection: migrate(connection, now_unix_ms()))
        seat = Seat()
        with contextlib.suppress(StoreUnavailable):
            # A database that cannot be written now is served from memory until it can be.
            await writer.run(lambda connection: take_seat(connection, seat))
        memory = await writer.run(lambda connection: load(connection, seat))
        await reader.start()
    except BaseException:
        for worker in workers:
            await worker.close()
        lock.release()
        raise
    if applied:
        _log.info("database migrated file=%s migrations=%s", path.name, ",".join(applied))
    return DatabaseRuntime(writer, reader, lock, seat, memory, now_unix_ms)


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
