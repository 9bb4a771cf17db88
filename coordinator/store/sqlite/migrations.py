"""The schema, as a registry of named migrations that are applied in order, once each."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from sqlite_utils import Database

from coordinator.store.sqlite.connection import transaction
from coordinator.store.sqlite.relations import relations_as_facts
from protos.domain.errors import ConfigInvalid
from protos.domain.resources import ResourceType
from protos.v1 import resources_pb2
from protos.wire import decode_row, encode_row

if TYPE_CHECKING:
    import sqlite3

_Apply = Callable[[Database], None]

#: name -> migration, in order. A released migration is never changed or removed.
REGISTRY: dict[str, _Apply] = {}


def _migration(apply: _Apply) -> _Apply:
    REGISTRY[apply.__name__.strip("_")] = apply
    return apply


def migrate(connection: sqlite3.Connection, now_unix_ms: int) -> tuple[str, ...]:
    """Bring the database to this version's schema and return the migrations just applied.

    Raises: ConfigInvalid when a newer version has written it.
    """
    applied = applied_migrations(connection)
    check_not_newer(applied)
    pending = [name for name in REGISTRY if name not in applied]
    if not pending:
        return ()
    database = Database(connection, execute_plugins=False)
    with transaction(connection):
        if not applied:
            database.table("migrations").create(
                {"name": str, "applied_unix_ms": int}, pk="name", strict=True
            )
        for name in pending:
            REGISTRY[name](database)
            connection.execute("INSERT INTO migrations VALUES (?, ?)", (name, now_unix_ms))
    return tuple(pending)


def applied_migrations(connection: sqlite3.Connection) -> frozenset[str]:
    """Return the names of the migrations that were applied to the database."""
    database = Database(connection, execute_plugins=False)
    if not database.table("migrations").exists():
        return frozenset()
    return frozenset(str(row["name"]) for row in database.table("migrations").rows)


def check_not_newer(applied: frozenset[str]) -> None:
    """Raises: ConfigInvalid when ``applied`` holds a migration that this version does not know."""
    if unknown := sorted(applied - REGISTRY.keys()):
        raise ConfigInvalid(
            [f"the database was written by a newer version (it knows {', '.join(unknown)})"],
            "start that version of edgeforge-coordinator, or restore a backup of this one",
        )


@_migration
def _0001_routing_table(database: Database) -> None:
    database.table("meta").create({"key": str, "value": str}, pk="key", strict=True)
    database.execute("INSERT INTO meta (key, value) VALUES ('epoch', '1')")
    # AUTOINCREMENT: a sequence number never comes back, not even after a compaction.
    database.execute(
        "CREATE TABLE changes (seq INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT NOT NULL,"
        " scope TEXT NOT NULL, key TEXT NOT NULL, payload BLOB, at_unix_ms INTEGER NOT NULL) STRICT"
    )
    database.table("changes").create_index(["type", "scope", "seq"])
    database.table("rows").create(
        {"type": str, "scope": str, "key": str, "payload": bytes, "seq": int},
        pk=("type", "scope", "key"),
        not_null={"payload", "seq"},
        strict=True,
    )
    # version: of the newest change; floor: of the newest change that compaction has dropped.
    database.table("tables").create(
        {"type": str, "scope": str, "version": int, "floor": int},
        pk=("type", "scope"),
        not_null={"version", "floor"},
        strict=True,
    )


@_migration
def _0002_nodes(database: Database) -> None:
    database.table("nodes").create(
        {
            "id": str,
            "pop_id": str,
            "enrolled_unix_ms": int,
            "engine_kind": str,
            "agent_version": str,
            "first_token_ms_p99": float,
            "prefill_ms_per_token": float,
            "max_parallel": int,
            "tokens_per_s": float,
        },
        pk="id",
        not_null={"pop_id", "enrolled_unix_ms", "engine_kind", "agent_version"},
        strict=True,
    )
    database.table("certificates").create(
        {"serial": str, "node_id": str, "not_after_unix_ms": int},
        pk="serial",
        not_null={"node_id", "not_after_unix_ms"},
        strict=True,
    )
    database.table("certificates").create_index(["node_id"])
    database.table("tokens").create(
        {
            "id": str,
            "secret_sha256": bytes,
            "pop_id": str,
            "node_id": str,
            "expires_unix_ms": int,
            "used_unix_ms": int,
            "public_key_sha256": bytes,
            "certificate_pem": bytes,
        },
        pk="id",
        not_null={"secret_sha256", "pop_id", "node_id", "expires_unix_ms"},
        strict=True,
    )
    database.table("tokens").create_index(["node_id"])


@_migration
def _0003_registry(database: Database) -> None:
    database.table("model_files").create(
        {"model": str, "path": str, "sha256": bytes, "size_bytes": int},
        pk=("model", "path"),
        not_null={"sha256", "size_bytes"},
        strict=True,
    )
    database.table("placements").create(
        {"deployment": str, "node_id": str}, pk=("deployment", "node_id"), strict=True
    )
    database.table("placements").create_index(["node_id"])
    database.table("keys").create(
        {"id": str, "created_unix_ms": int}, pk="id", not_null={"created_unix_ms"}, strict=True
    )


@_migration
def _0004_audit(database: Database) -> None:
    database.execute(
        "CREATE TABLE audit (seq INTEGER PRIMARY KEY AUTOINCREMENT, at_unix_ms INTEGER NOT NULL,"
        " actor TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL, detail TEXT NOT NULL,"
        " anonymous INTEGER NOT NULL) STRICT"
    )
    database.table("audit").create_index(["anonymous", "seq"])


@_migration
def _0005_node_orders(database: Database) -> None:
    database.table("node_orders").create(
        {
            "node_id": str,
            "kind": str,
            "ordered_by": str,
            "reason": str,
            "at_unix_ms": int,
            "phase": str,
            "moves": str,
            "force": int,
        },
        pk="node_id",
        not_null={"kind", "ordered_by", "reason", "at_unix_ms", "phase", "moves", "force"},
        strict=True,
    )


@_migration
def _0006_engine_mode(database: Database) -> None:
    database.execute("ALTER TABLE nodes ADD COLUMN embeds INTEGER NOT NULL DEFAULT 0")


@_migration
def _0007_tool_parser(database: Database) -> None:
    database.execute("ALTER TABLE nodes ADD COLUMN lacks_tool_parser INTEGER NOT NULL DEFAULT 0")


@_migration
def _0008_served_context(database: Database) -> None:
    database.execute("ALTER TABLE nodes ADD COLUMN context_tokens INTEGER NOT NULL DEFAULT 0")


@_migration
def _0009_fleet_id(database: Database) -> None:
    # Of the fleet, not of the file: a restored backup has the id of the database it was taken from.
    database.execute(
        "INSERT INTO meta (key, value) VALUES ('fleet_id', ?)", (secrets.token_hex(16),)
    )


@_migration
def _0010_change_log(database: Database) -> None:
    # One row: where the log stands, what has been compacted, and which writer may append.
    database.execute(
        "CREATE TABLE log (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL,"
        " floor INTEGER NOT NULL, writer_epoch INTEGER NOT NULL) STRICT"
    )
    database.execute(
        "INSERT INTO log SELECT 1, seq, coalesce((SELECT min(seq) - 1 FROM changes), seq), 0 FROM"
        " (SELECT max((SELECT coalesce(max(seq), 0) FROM changes),"
        " (SELECT coalesce(max(version), 0) FROM tables)) AS seq)"
    )
    # The log gives the numbers: no AUTOINCREMENT. Nothing asks for one table's changes.
    database.execute(
        "CREATE TABLE numbered (seq INTEGER PRIMARY KEY, type TEXT NOT NULL, scope TEXT NOT NULL,"
        " key TEXT NOT NULL, payload BLOB, at_unix_ms INTEGER NOT NULL) STRICT"
    )
    database.execute(
        "INSERT INTO numbered SELECT seq, type, scope, key, payload, at_unix_ms FROM changes"
    )
    database.execute("DROP TABLE changes")
    database.execute("ALTER TABLE numbered RENAME TO changes")
    facts = list(relations_as_facts(database))
    ((seq, now_unix_ms),) = database.execute(
        "SELECT seq, coalesce((SELECT max(at_unix_ms) FROM changes), 0) FROM log"
    ).fetchall()
    for number, (type_, key, value) in enumerate(facts, start=seq + 1):
        payload = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
        database.execute(
            "INSERT INTO changes VALUES (?, ?, '', ?, ?, ?)",
            (number, type_, key, payload, now_unix_ms),
        )
        database.execute(
            "INSERT INTO rows (type, scope, key, payload, seq) VALUES (?, '', ?, ?, ?)",
            (type_, key, payload, number),
        )
    database.execute("UPDATE log SET seq = seq + ?", (len(facts),))
    for gone in ("nodes", "certificates", "placements", "model_files", "keys", "node_orders"):
        database.execute(f"DROP TABLE {gone}")


@_migration
def _0011_strangers(database: Database) -> None:
    # Of all anonymous entries only these prove something: their token's secret.
    kept = "anonymous = 0 OR action IN ('enrolment.accepted', 'enrolment.repeated')"
    columns = "seq, at_unix_ms, actor, action, subject, detail"
    for name in ("strangers", "audit_of_known"):
        database.execute(
            f"CREATE TABLE {name} (seq INTEGER PRIMARY KEY AUTOINCREMENT,"
            " at_unix_ms INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,"
            " subject TEXT NOT NULL, detail TEXT NOT NULL) STRICT"
        )
    database.execute(
        f"INSERT INTO strangers ({columns}) SELECT {columns} FROM audit WHERE NOT ({kept})"
    )
    database.execute(
        f"INSERT INTO audit_of_known ({columns}) SELECT {columns} FROM audit WHERE {kept}"
    )
    database.execute("DROP TABLE audit")
    database.execute("ALTER TABLE audit_of_known RENAME TO audit")
    database.table("audit").create_index(["actor", "seq"])


@_migration
def _0012_pins_in_rows(database: Database) -> None:
    """Pinned deployments get their pins into their rows, as changes that agents receive."""
    placed = database.execute("SELECT key, payload FROM rows WHERE type = 'placement' ORDER BY key")
    for deployment, placement in placed.fetchall():
        key, node_ids = f"deployment/{deployment}", json.loads(placement)["node_ids"]
        found = database.execute(
            "SELECT payload FROM rows WHERE type = 'deployments' AND scope = '' AND key = ?", (key,)
        ).fetchall()
        if not found or not node_ids:
            continue
        try:
            row = resources_pb2.DeploymentsRow.FromString(found[0][0])
        except DecodeError:
            continue
        row.deployment.node_ids[:] = node_ids
        row.deployment.is_pinned = True
        payload = row.SerializeToString(deterministic=True)
        _rewrite_row(database, ResourceType.DEPLOYMENTS, key, payload)


def _rewrite_row(database: Database, resource_type: ResourceType, key: str, payload: bytes) -> None:
    """Replace a shared row by a change that agents receive, at the time of the newest one."""
    row = (resource_type.value, key)
    ((seq,),) = database.execute("UPDATE log SET seq = seq + 1 RETURNING seq").fetchall()
    database.execute(
        "INSERT INTO changes (seq, type, scope, key, payload, at_unix_ms)"
        " SELECT ?, ?, '', ?, ?, coalesce(max(at_unix_ms), 0) FROM changes",
        (seq, *row, payload),
    )
    database.execute(
        "UPDATE rows SET payload = ?, seq = ? WHERE type = ? AND scope = '' AND key = ?",
        (payload, seq, *row),
    )
    database.execute(
        "UPDATE tables SET version = ? WHERE type = ? AND scope = ''", (seq, resource_type.value)
    )


@_migration
def _0013_no_salts(database: Database) -> None:
    # Rows of accounts had a cache salt, which every agent could read. Each is written anew without
    # it, as a change that agents get; the log forgets it too.
    accounts = database.execute(
        "SELECT key, payload FROM rows WHERE type = 'credentials' AND key LIKE 'account/%'"
    ).fetchall()
    for key, payload in accounts:
        plain = _without_salt(payload)
        if plain == payload:
            continue
        database.execute(
            "UPDATE changes SET payload = ? WHERE type = 'credentials' AND key = ?"
            " AND payload IS NOT NULL",
            (plain, key),
        )
        _rewrite_row(database, ResourceType.CREDENTIALS, key, plain)


def _without_salt(payload: bytes) -> bytes:
    account = decode_row(ResourceType.CREDENTIALS, payload)
    return payload if account is None else encode_row(account)


@_migration
def _0014_operators(database: Database) -> None:
    # A token makes a node or an operator of the holder of a key; who made it may lose that right.
    database.execute("ALTER TABLE tokens RENAME COLUMN node_id TO name")
    database.execute("ALTER TABLE tokens ADD COLUMN purpose TEXT NOT NULL DEFAULT 'node'")
    database.execute("ALTER TABLE tokens ADD COLUMN role TEXT NOT NULL DEFAULT ''")
    database.execute("ALTER TABLE tokens ADD COLUMN created_by TEXT NOT NULL DEFAULT ''")
