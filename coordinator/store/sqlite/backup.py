"""Copies of the database: taken while it runs, and put back with a raised epoch."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from coordinator.store.records import AuditNote
from coordinator.store.sqlite.connection import DatabaseLock, as_unavailable
from coordinator.store.sqlite.migrations import applied_migrations, check_not_newer, migrate
from coordinator.store.sqlite.transactions import Seat, run_transaction
from protos.domain.errors import Conflict, InvalidRequest, NotFound, StoreUnavailable
from protos.host.files import sync_folder
from protos.host.ownership import as_owner_of, not_allowed

_log = logging.getLogger(__name__)

#: Pages copied before waiting writes get their turn.
_PAGES_PER_STEP = 1_024
_LOGS = ("-wal", "-shm")
_BESIDE = ("", *_LOGS)


def copy_database(source: sqlite3.Connection, target: Path) -> None:
    """Write a consistent copy of ``source`` to a new file that only its owner can read.

    Raises: Conflict if the file exists; StoreUnavailable if it cannot be written.
    """
    try:
        os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise Conflict(f"{target} exists", "choose another name", retryable=False) from None
    except OSError as error:
        raise StoreUnavailable(f"cannot write the backup {target}: {error.strerror}") from error
    try:
        with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy:
            source.backup(copy, pages=_PAGES_PER_STEP)
            # A single file, without a write-ahead log beside it.
            copy.execute("PRAGMA journal_mode = DELETE")
    except BaseException as error:
        _remove(target)
        if isinstance(error, sqlite3.Error):
            raise StoreUnavailable(f"cannot write the backup {target}: {error}") from error
        raise
    _sync_file(target)


def restore(backup: Path, database: Path, *, now_unix_ms: int) -> int:
    """Put ``backup`` in the place of ``database`` and return the new epoch.

    The epoch becomes higher than that of both and than any an earlier restore can have given
    (seconds since 1970), so that every agent takes the restored tables for newer. The replaced file
    is kept beside it as ``<name>.before-<unix ms>``. The coordinator must be stopped.
    Raises: Conflict when it runs; NotFound, InvalidRequest for an unusable backup; ConfigInvalid
    when a newer version wrote it; StoreUnavailable.
    """
    if not backup.is_file():
        raise NotFound(f"there is no backup {backup}", "name a copy of coordinator.db")
    if not os.access(backup, os.R_OK):
        raise not_allowed(backup)
    with _sound_copy(backup) as source, as_owner_of(database.parent):
        epoch = _put_in_place(source, backup.name, database, now_unix_ms)
    _log.warning("database restored from=%s epoch=%d", backup, epoch)
    return epoch


def _put_in_place(source: sqlite3.Connection, name: str, database: Path, now_unix_ms: int) -> int:
    lock = DatabaseLock(database)
    fresh = database.with_name(f"{database.name}.restoring")
    try:
        _remove(fresh)
        copy_database(source, fresh)
        epoch = _raise_epoch(fresh, _present_epoch(database), name, now_unix_ms)
        _keep_aside(database, f"{database.name}.before-{now_unix_ms}")
        fresh.replace(database)
        sync_folder(database.parent)
    except sqlite3.Error as error:
        raise as_unavailable(error, database) or error from error
    finally:
        _remove(fresh)
        lock.release()
    return epoch


def _keep_aside(database: Path, name: str) -> None:
    """Keep what is there under ``name``; the database itself stays in place until it is replaced.

    A kill leaves the old database or the new one. Its log files are there only if it could not be
    opened: then they go first, since SQLite would apply them to the new one.
    """
    for suffix in _LOGS:
        with contextlib.suppress(FileNotFoundError):
            database.with_name(database.name + suffix).rename(database.with_name(name + suffix))
    database.with_name(name).unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        database.with_name(name).hardlink_to(database)


@contextlib.contextmanager
def _sound_copy(backup: Path) -> Iterator[sqlite3.Connection]:
    """Open a backup that was checked whole. Raises: InvalidRequest, ConfigInvalid."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"{backup.absolute().as_uri()}?mode=ro", uri=True)
        ) as source:
            (verdict,) = source.execute("PRAGMA integrity_check(1)").fetchone()
            applied = applied_migrations(source)
            if verdict != "ok" or not applied:
                raise InvalidRequest(
                    f"{backup} is not a sound coordinator database: "
                    + (verdict if verdict != "ok" else "it has no migrations"),
                    "choose an older backup",
                )
            check_not_newer(applied)
            yield source
    except sqlite3.DatabaseError as error:
        raise InvalidRequest(
            f"{backup} cannot be read: {error}", "choose an older backup"
        ) from error


def _present_epoch(database: Path) -> int:
    """Return the epoch of the database to be replaced, 0 if it cannot be read."""
    if not database.exists():
        return 0
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=1.0)) as present:
            return read_epoch(present)
    except (sqlite3.Error, TypeError) as error:
        _log.warning("the database to be replaced cannot be read file=%s error=%s", database, error)
        return 0


def _raise_epoch(fresh: Path, present_epoch: int, source: str, now_unix_ms: int) -> int:
    with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
        migrate(connection, now_unix_ms)
        epoch = max(read_epoch(connection) + 1, present_epoch + 1, now_unix_ms // 1_000)
        note = AuditNote("coordinator", "database.restored", source, f"epoch={epoch}")
        run_transaction(
            connection,
            Seat(),
            now_unix_ms,
            lambda tx: tx.change("UPDATE meta SET value = ? WHERE key = 'epoch'", (str(epoch),)),
            note,
        )
    _sync_file(fresh)
    return epoch


def read_epoch(connection: sqlite3.Connection) -> int:
    """Return the epoch that every table of this database is in."""
    return int(connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0])


def _remove(path: Path) -> None:
    for suffix in (*_BESIDE, "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
