"""Copies of both databases, taken while the coordinator runs, and put back while it is stopped."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.store.sqlite.backup import copy_database, restore
from coordinator.usage.restoring import restore_usage
from protos.domain.errors import Conflict, NotFound, StoreUnavailable
from protos.host.files import sync_folder

if TYPE_CHECKING:
    from coordinator.config import CoordinatorConfig


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back."""

    epoch: int
    usage: bool


def back_up(config: CoordinatorConfig, folder: Path) -> list[Path]:
    """Write copies of both databases to a new folder and return them.

    Usage first: what its records name is in the other one. Raises: NotFound before `init`, Conflict
    if the folder exists, StoreUnavailable.
    """
    if not config.database.is_file():
        raise NotFound(f"there is no database {config.database}", "run `init` first")
    try:
        folder.mkdir(mode=0o700, parents=False)
    except FileExistsError:
        raise Conflict(f"{folder} exists", "choose another name", retryable=False) from None
    except OSError as error:
        raise StoreUnavailable(f"cannot make {folder}: {error.strerror}") from error
    written = []
    for source in (config.usage_database, config.database):
        if source.is_file():
            with contextlib.closing(
                sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)
            ) as open_:
                copy_database(open_, folder / source.name)
            written.append(folder / source.name)
    sync_folder(folder)
    return written


def bring_back(config: CoordinatorConfig, backup: Path, *, now_unix_ms: int) -> Restored:
    """Put the databases of a folder, or one copy of coordinator.db, in place.

    Raises: as ``restore`` and ``restore_usage``.
    """
    if not backup.is_dir():
        return Restored(restore(backup, config.database, now_unix_ms=now_unix_ms), usage=False)
    usage = backup / config.usage_database.name
    if has_usage := usage.is_file():
        restore_usage(usage, config.usage_database, now_unix_ms=now_unix_ms)
    epoch = restore(backup / config.database.name, config.database, now_unix_ms=now_unix_ms)
    return Restored(epoch, has_usage)
