"""Opens the database file: permissions, pragmas, the owner's lock, translation of errors."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from protos.domain.errors import ConfigInvalid, Conflict, StoreUnavailable

#: How long one statement waits for another process's lock.
BUSY_TIMEOUT_MS = 2_000
#: The write-ahead log is cut back to this after a checkpoint.
_WAL_LIMIT_BYTES = 64 * 1024 * 1024

#: Every database of ours has had it.
FIRST_MIGRATION = "0001_routing_table"

_SQLITE_HEAD = b"SQLite format 3\0"
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_DISK = (
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
)


def connect(
    path: Path, *, read_only: bool = False, busy_timeout_ms: int = BUSY_TIMEOUT_MS
) -> sqlite3.Connection:
    """Return a connection in write-ahead mode that leaves transactions to its user.

    A new file is readable by its owner only, and so are the log files SQLite puts beside it.
    """
    # A file that is there is never opened here: closing it would drop the locks that this process's
    # other connections hold, and the next stranger that looks into the database would delete its
    # write-ahead log on leaving.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=busy_timeout_ms / 1000, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # FULL: after a power cut no agent may hold a version that the database has lost.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
        connection.execute(f"PRAGMA query_only = {'ON' if read_only else 'OFF'}")
    except BaseException:
        connection.close()
        raise
    return connection


def check_ours(path: Path) -> None:
    """Refuse a file that is not a coordinator's database, and leave it as it is.

    Only a file that does not exist is made into a new database: an empty one in the place of a
    fleet's would tell every agent that it was removed.
    Raises: ConfigInvalid; StoreUnavailable when it cannot be read.
    """
    if not path.is_file():
        raise _not_ours(path, "is not a file")  # a pipe would be waited for
    with path.open("rb") as file:
        head = file.read(len(_SQLITE_HEAD))
    if not head:
        raise _not_ours(path, "is empty")
    if head != _SQLITE_HEAD:
        raise _not_ours(path, "is not a database")
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000)) as database:
            found = database.execute(
                "SELECT count(*) FROM sqlite_master WHERE name IN ('migrations', 'changes', 'rows')"
            ).fetchone()
            first = "SELECT count(*) FROM migrations WHERE name = ?"
            ours = found == (3,) and database.execute(first, (FIRST_MIGRATION,)).fetchone() == (1,)
    except sqlite3.Error as error:
        unavailable = as_unavailable(error, path)
        if unavailable is None:  # tables of these names without our columns
            ours = False
        elif unavailable.retryable:
            raise unavailable from error
        else:
            raise ConfigInvalid([unavailable.message], unavailable.hint) from error
    if not ours:
        raise _not_ours(path, "is the database of another program")


def _not_ours(path: Path, what: str) -> ConfigInvalid:
    return ConfigInvalid(
        [f"{path} {what}: no fleet is in it"],
        "bring a backup back: edgeforge-coordinator restore BACKUP; a new fleet is made by"
        " `edgeforge-coordinator init` in another state_dir",
    )


def as_unavailable(error: sqlite3.Error, path: Path) -> StoreUnavailable | None:
    """Return the error for a caller; None if ``error`` is a mistake in the SQL."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _LOCKED:
        return StoreUnavailable(
            "the coordinator's database is locked by another process",
            f"find it with `fuser {path.name}`; it resumes by itself when the lock is gone",
        )
    if code == sqlite3.SQLITE_FULL:
        return StoreUnavailable(
            "the disk of the coordinator's database is full",
            f"free space on the disk that holds {path.name}; it resumes by itself",
        )
    if code in _DISK:
        return StoreUnavailable(
            f"the coordinator's database cannot be read or written: {error}",
            f"check the disk and the permissions of {path.name}; it resumes by itself",
        )
    if code in _BROKEN:
        return StoreUnavailable(
            f"the coordinator's database is damaged: {error}",
            "stop the coordinator and restore a backup: edgeforge-coordinator restore BACKUP",
            retryable=False,
        )
    return None


class DatabaseLock:
    """Makes this process the only owner of a database, until ``release`` or the process's end."""

    def __init__(self, path: Path) -> None:
        """Raises: Conflict when another process is the owner."""
        lock_path = path.with_name(path.name + ".lock")
        self._descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise Conflict(
                f"another coordinator is running on {path.name}",
                "stop it first; two coordinators never share a database",
                retryable=False,
            ) from None

    def release(self) -> None:
        """Let another process own the database; safe to call twice."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Run the block between BEGIN and COMMIT; what it raises undoes it."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
