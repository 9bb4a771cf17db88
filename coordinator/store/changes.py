"""The change log in the database: where it stands, what is new in it, and its compaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.store.fact_tables import FactTables
from coordinator.store.facts import FactType, row_type
from coordinator.store.history import Change
from coordinator.store.memory import Memory, Tail
from coordinator.store.projection import Projection, TableName
from protos.domain.resources import ResourceType

if TYPE_CHECKING:
    from coordinator.store.connection import Connection
    from coordinator.store.transaction import Transaction

#: Changes of all tables that are read at start.
LOADED_LIMIT = 200_000
#: Changes that a process applies one by one; further behind, it reads all rows again.
TAIL_LIMIT = 20_000
#: Changes dropped in one transaction, so that a compaction delays no write for long.
COMPACTION_STEP = 5_000


def read_memory(connection: Connection) -> Memory:
    """Return everything, within a transaction of the caller's."""
    ((seq,),) = connection.execute("SELECT seq FROM log").fetchall()
    meta = dict(connection.execute("SELECT key, value FROM meta WHERE key <> 'probe'").fetchall())
    rows: dict[TableName, dict[str, bytes]] = {}
    facts = FactTables()
    for type_, scope, key, payload in connection.execute(
        "SELECT type, scope, key, payload FROM rows"
    ):
        named = row_type(type_)
        if isinstance(named, FactType):
            facts.keep(named, key, payload)
        else:
            rows.setdefault((named, scope), {})[key] = payload
    projection = Projection(int(meta["epoch"]))
    cut = max(0, seq - LOADED_LIMIT)
    for type_, scope, version, floor in connection.execute(
        "SELECT type, scope, version, floor FROM tables"
    ):
        name = (ResourceType(type_), scope)
        projection.start(name, version, max(floor, min(cut, version)), rows.get(name, {}))
    for at, type_, scope, key in connection.execute(
        "SELECT seq, type, scope, key FROM changes WHERE seq > ? ORDER BY seq", (cut,)
    ):
        named = row_type(type_)
        if isinstance(named, ResourceType):
            projection.remember((named, scope), at, key)
    return Memory(seq, meta["fleet_id"], projection, facts)


def read_news(connection: Connection, since: int) -> Tail | Memory:
    """Return what changed after ``since``, or everything for a ``since`` too old.

    Within a transaction of the caller's, so that all of it is of one moment.
    """
    seq, floor = connection.execute("SELECT seq, floor FROM log").fetchone()
    if since < floor or seq - since > TAIL_LIMIT:
        return read_memory(connection)
    changes = connection.execute(
        "SELECT seq, type, scope, key, payload FROM changes WHERE seq > ? ORDER BY seq", (since,)
    )
    return Tail(
        seq,
        floor,
        tuple(
            Change(at, row_type(type_), scope, key, payload)
            for at, type_, scope, key, payload in changes
        ),
    )


def compact_step(tx: Transaction, older_than_unix_ms: int) -> int:
    """Drop up to COMPACTION_STEP of the oldest changes and raise the floors; return how many."""
    ((last,),) = tx.query(
        "SELECT max(seq) FROM (SELECT seq, at_unix_ms FROM changes ORDER BY seq LIMIT ?)"
        " AS oldest WHERE at_unix_ms < ?",
        (COMPACTION_STEP, older_than_unix_ms),
    )
    if last is None:
        return 0
    for type_, scope, floor in tx.query(
        "SELECT type, scope, max(seq) FROM changes WHERE seq <= ? GROUP BY type, scope", (last,)
    ):
        tx.change("UPDATE tables SET floor = ? WHERE type = ? AND scope = ?", (floor, type_, scope))
    tx.change("UPDATE log SET floor = ?", (last,))
    return tx.change("DELETE FROM changes WHERE seq <= ?", (last,))
