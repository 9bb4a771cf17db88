"""The schema of the usage database, as a list of named migrations applied in order, once each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.store.sqlite.connection import transaction
from protos.domain.errors import ConfigInvalid

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Migration:
    """SQL statements that are run in one transaction. A released one is never changed."""

    name: str
    statements: tuple[str, ...]


_REGISTRY = (
    "CREATE TABLE IF NOT EXISTS migrations"
    " (name TEXT PRIMARY KEY, applied_unix_ms INTEGER NOT NULL) STRICT"
)


def migrate(
    connection: sqlite3.Connection, migrations: Sequence[Migration], now_unix_ms: int
) -> tuple[str, ...]:
    """Apply those of ``migrations`` that are missing and return their names.

    Raises: ConfigInvalid when a newer version has written the database.
    """
    with transaction(connection):
        connection.execute(_REGISTRY)
        applied = {name for (name,) in connection.execute("SELECT name FROM migrations")}
        if unknown := sorted(applied - {one.name for one in migrations}):
            raise ConfigInvalid(
                [f"the usage database was written by a newer version ({', '.join(unknown)})"],
                "start that version of edgeforge-coordinator, or restore a backup of this one",
            )
        pending = [one for one in migrations if one.name not in applied]
        for migration in pending:
            for statement in migration.statements:
                connection.execute(statement)
            connection.execute(
                "INSERT INTO migrations VALUES (?, ?)", (migration.name, now_unix_ms)
            )
    return tuple(one.name for one in pending)
