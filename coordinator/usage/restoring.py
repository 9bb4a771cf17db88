"""Copies of the usage database, put back while the coordinator is stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

from coordinator.store.sqlite.backup import copy_database
from coordinator.store.sqlite.connection import DatabaseLock, connect
from coordinator.usage.database import in_transaction
from coordinator.usage.migration import migrate
from coordinator.usage.migrations import ALL_MIGRATIONS
from protos.domain.errors import InvalidRequest, NotFound, StoreUnavailable
from protos.host.files import sync_folder
from protos.host.ownership import as_owner_of, not_allowed

_log = logging.getLogger(__name__)

_LOGS = ("-wal", "-shm")


def mark_restored(now_unix_ms: int) -> Callable[[sqlite3.Connection], None]:
    """Return a change that lets each spool go on once behind numbers that are gone.

    They were counted after the backup, and agents have deleted them.
    """

    def change(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE spools SET gap_allowed = 2")
        connection.execute("INSERT INTO restored VALUES (?) ON CONFLICT DO NOTHING", (now_unix_ms,))

    return change


def restore_usage(backup: Path, database: Path, *, now_unix_ms: int) -> int:
    """Put ``backup`` in the place of ``database`` and return how many spools it knows.

    The replaced file is kept beside it as ``<name>.before-<unix ms>``. The coordinator must be
    stopped. Raises: Conflict when it runs; NotFound, InvalidRequest for an unusable backup;
    ConfigInvalid when a newer version wrote it; StoreUnavailable.
    """
    if not backup.is_file():
        raise NotFound(f"there is no backup {backup}", "name a copy of usage.db")
    if not os.access(backup, os.R_OK):
        raise not_allowed(backup)
    with as_owner_of(database.parent):
        lock = DatabaseLock(database)
        fresh = database.with_name(f"{database.name}.restoring")
        try:
            _remove(fresh)
            _copy(backup, fresh)
            spools = _mark(fresh, now_unix_ms)
            _put_in_place(fresh, database, now_unix_ms)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"cannot restore {backup}: {error}") from error
        finally:
            _remove(fresh)
            lock.release()
    _log.warning("usage database restored from=%s spools=%d", backup, spools)
    return spools


def _copy(backup: Path, fresh: Path) -> None:
    """Copy a backup that was checked whole. Raises: InvalidRequest."""
    try:
        uri = f"{backup.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as source:
            (verdict,) = source.execute("PRAGMA integrity_check(1)").fetchone()
            if verdict == "ok":
                (found,) = source.execute(
                    "SELECT count(*) FROM sqlite_master WHERE name IN ('migrations', 'spools')"
                ).fetchone()
                verdict = "ok" if found == 2 else "it has no spools"
            if verdict != "ok":
                raise InvalidRequest(
                    f"{backup} is not a sound usage database: {verdict}", "choose an older backup"
                )
            copy_database(source, fresh)
    except sqlite3.DatabaseError as error:
        raise InvalidRequest(
            f"{backup} cannot be read: {error}", "choose an older backup"
        ) from error


def _mark(fresh: Path, now_unix_ms: int) -> int:
    with contextlib.closing(connect(fresh)) as connection:
        migrate(connection, ALL_MIGRATIONS, now_unix_ms)
        in_transaction(connection, mark_restored(now_unix_ms))
        (spools,) = connection.execute("SELECT count(*) FROM spools").fetchone()
        # A single file again, that can be renamed.
        connection.execute("PRAGMA journal_mode = DELETE")
    return int(spools)


def _put_in_place(fresh: Path, database: Path, now_unix_ms: int) -> None:
    """A kill leaves the old database or the new one."""
    before = partial("{}.before-{}{}".format, database.name, now_unix_ms)
    for suffix in _LOGS:
        with contextlib.suppress(FileNotFoundError):
            database.with_name(database.name + suffix).rename(database.with_name(before(suffix)))
    with contextlib.suppress(FileNotFoundError):
        database.with_name(before("")).unlink(missing_ok=True)
        database.with_name(before("")).hardlink_to(database)
    fresh.replace(database)
    sync_folder(database.parent)


def _remove(path: Path) -> None:
    for suffix in ("", *_LOGS, "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
