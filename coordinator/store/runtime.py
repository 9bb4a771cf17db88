"""The database runtime: a writer thread, a reader thread, and tables in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from coordinator import clock
from coordinator.store.cached_tables import CachedTables, load_cached_tables
from coordinator.store.database import DatabaseLock, connect
from coordinator.store.migrations import migrate
from coordinator.store.projection import Projection, load_projection
from coordinator.store.transaction import Transaction, run_transaction
from coordinator.store.worker import Worker
from protos.domain.errors import NotFound

if TYPE_CHECKING:
    import sqlite3

    from coordinator.store.records import AuditNote
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
        loaded: tuple[Projection, CachedTables],
        now_unix_ms: Callable[[], int],
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._lock = lock
        self._now_unix_ms = now_unix_ms
        self._callbacks: list[Callable[[ResourceType, str], None]] = []
        self.projection, self.cached = loaded

    @property
    def available(self) -> bool:
        """Whether the last write, or the last probe since, succeeded."""
        return self._writer.available

    def on_change(self, callback: Callable[[ResourceType, str], None]) -> None:
        """Call ``callback`` with every table that a commit changed."""
        self._callbacks.append(callback)

    async def write(self, change: Callable[[Transaction], T], note: AuditNote | None = None) -> T:
        """Run ``change`` and its audit note in one transaction. Raises: StoreUnavailable."""

        def work(connection: sqlite3.Connection) -> tuple[T, Transaction]:
            return run_transaction(connection, self._now_unix_ms(), change, note)

        result, _ = await self._writer.run(work, lambda committed: self._publish(committed[1]))
        return result

    async def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Query the database in the reader thread. Raises: StoreUnavailable."""
        return await self._reader.run(question)

    async def close(self) -> None:
        """Finish the queued work and release the file."""
        await self._reader.close()
        await self._writer.close()
        self._lock.release()

    def _publish(self, committed: Transaction) -> None:
        for effect in committed.effects:
            effect(self.cached)
        if committed.compacted_to_seq:
            self.projection.forget(committed.compacted_to_seq)
        for resource_type, scope in self.projection.publish(committed.changes):
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
        loaded = await writer.run(
            lambda connection: (load_projection(connection), load_cached_tables(connection))
        )
        await reader.start()
    except BaseException:
        for worker in workers:
            await worker.close()
        lock.release()
        raise
    if applied:
        _log.info("database migrated file=%s migrations=%s", path.name, ",".join(applied))
    return DatabaseRuntime(writer, reader, lock, loaded, now_unix_ms)


def _own(path: Path, must_exist: bool) -> DatabaseLock:
    if must_exist and not path.exists():
        raise NotFound(
            f"there is no database {path.name} in the state directory",
            "`edgeforge-coordinator init` makes one, `restore` brings a backup back",
        )
    return DatabaseLock(path)


def _probe_write(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO meta (key, value) VALUES ('probe', ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        ("." * _PROBE_CHARS,),
    )


def _probe_read(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
