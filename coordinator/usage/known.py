"""What the fleet has known, read back from the usage database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from coordinator.core.usage_checks import KnownFleet

if TYPE_CHECKING:
    import sqlite3

    from coordinator.usage.database import UsageDatabase


async def read_known(database: UsageDatabase) -> KnownFleet:
    """Return every fact that was ever seen."""

    def question(connection: sqlite3.Connection) -> KnownFleet:
        rows = connection.execute("SELECT fact FROM facts")
        return KnownFleet(tuple(json.loads(fact)) for (fact,) in rows)

    return await database.read(question)
