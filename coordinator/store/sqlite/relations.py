"""The relational tables of before the change log, as facts; migration 0010 reads them once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlite_utils import Database

_Fact = tuple[str, str, dict[str, Any]]


def relations_as_facts(database: Database) -> Iterator[_Fact]:
    """Yield type, key and value of each fact that the relational tables held."""
    yield from _nodes(database)
    yield from _certificates(database)
    yield from _placements(database)
    yield from _node_orders(database)
    yield from _manifests(database)
    for row in database.query("SELECT * FROM keys ORDER BY id"):
        yield "key", row["id"], {"created_unix_ms": row["created_unix_ms"]}


def _nodes(database: Database) -> Iterator[_Fact]:
    profile = (
        "first_token_ms_p99",
        "prefill_ms_per_token",
        "max_parallel",
        "tokens_per_s",
        "embeds",
        "lacks_tool_parser",
        "context_tokens",
    )
    for row in database.query("SELECT * FROM nodes ORDER BY id"):
        known = {name: row[name] for name in profile}
        for flag in ("embeds", "lacks_tool_parser"):
            known[flag] = bool(known[flag])
        yield (
            "node",
            row["id"],
            {
                "pop_id": row["pop_id"],
                "enrolled_unix_ms": row["enrolled_unix_ms"],
                "engine_kind": row["engine_kind"],
                "agent_version": row["agent_version"],
                "profile": None if row["first_token_ms_p99"] is None else known,
            },
        )


def _certificates(database: Database) -> Iterator[_Fact]:
    by_node: dict[str, list[list[Any]]] = {}
    for row in database.query("SELECT * FROM certificates ORDER BY not_after_unix_ms, serial"):
        by_node.setdefault(row["node_id"], []).append([row["serial"], row["not_after_unix_ms"]])
    for node_id, certificates in sorted(by_node.items()):
        yield "certificates", node_id, {"certificates": certificates}


def _placements(database: Database) -> Iterator[_Fact]:
    pins: dict[str, list[str]] = {
        key.removeprefix("deployment/"): []
        for (key,) in database.execute(
            "SELECT key FROM rows WHERE type = 'deployments' AND key LIKE 'deployment/%'"
        ).fetchall()
    }
    for row in database.query("SELECT * FROM placements ORDER BY deployment, node_id"):
        if row["deployment"] in pins:
            pins[row["deployment"]].append(row["node_id"])
    for deployment, node_ids in sorted(pins.items()):
        yield "placement", deployment, {"node_ids": node_ids}


def _node_orders(database: Database) -> Iterator[_Fact]:
    for row in database.query("SELECT * FROM node_orders ORDER BY node_id"):
        order = {
            "kind": row["kind"],
            "by": row["ordered_by"],
            "reason": row["reason"],
            "at_unix_ms": row["at_unix_ms"],
            "phase": row["phase"],
            "moves": json.loads(row["moves"]),
            "force": bool(row["force"]),
        }
        yield "node_order", row["node_id"], order


def _manifests(database: Database) -> Iterator[_Fact]:
    files: dict[str, list[list[Any]]] = {}
    for row in database.query("SELECT * FROM model_files ORDER BY model, path"):
        file = [row["path"], row["sha256"].hex(), row["size_bytes"]]
        files.setdefault(row["model"], []).append(file)
    for model, listed in files.items():
        yield "manifest", model, {"files": listed}
