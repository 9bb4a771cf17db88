"""Relational tables cached in memory: read without waiting, changed after commits only."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.core.node_orders import Move, NodeOrder, OrderKind, Phase
from coordinator.store.records import CertificateRecord, NodeRecord
from protos.domain.resources import EngineProfile, ModelFile

if TYPE_CHECKING:
    import sqlite3


@dataclass(slots=True)
class CachedTables:
    """The cached tables; agents get none of them."""

    nodes: dict[str, NodeRecord] = field(default_factory=dict)
    #: deployment -> node ids in order
    placements: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: node id -> its order
    orders: dict[str, NodeOrder] = field(default_factory=dict)
    #: model -> files by path
    manifests: dict[str, tuple[ModelFile, ...]] = field(default_factory=dict)
    #: key id -> when it was created, oldest first
    keys_created_unix_ms: dict[str, int] = field(default_factory=dict)


def load_cached_tables(connection: sqlite3.Connection) -> CachedTables:
    """Read everything."""
    cached = CachedTables()
    for (node_id,) in connection.execute("SELECT id FROM nodes ORDER BY id").fetchall():
        record = node_record(connection, node_id)
        assert record is not None
        cached.nodes[node_id] = record
    placements: dict[str, list[str]] = {}
    for deployment, node_id in connection.execute(
        "SELECT deployment, node_id FROM placements ORDER BY deployment, node_id"
    ):
        placements.setdefault(deployment, []).append(node_id)
    cached.placements = {name: tuple(node_ids) for name, node_ids in placements.items()}
    manifests: dict[str, list[ModelFile]] = {}
    for model, path, sha256, size_bytes in connection.execute(
        "SELECT model, path, sha256, size_bytes FROM model_files ORDER BY model, path"
    ):
        manifests.setdefault(model, []).append(ModelFile(path, sha256, size_bytes))
    cached.manifests = {model: tuple(files) for model, files in manifests.items()}
    cached.orders = load_orders(connection)
    cached.keys_created_unix_ms = dict(
        connection.execute("SELECT id, created_unix_ms FROM keys ORDER BY created_unix_ms, id")
    )
    return cached


def node_record(connection: sqlite3.Connection, node_id: str) -> NodeRecord | None:
    """Return an enrolled node with its certificates, oldest first."""
    row = connection.execute(
        "SELECT pop_id, enrolled_unix_ms, engine_kind, agent_version, first_token_ms_p99,"
        " prefill_ms_per_token, max_parallel, tokens_per_s, embeds, lacks_tool_parser,"
        " context_tokens FROM nodes WHERE id = ?",
        (node_id,),
    ).fetchone()
    if row is None:
        return None
    pop_id, enrolled_unix_ms, engine_kind, agent_version, *profile = row
    certificates = connection.execute(
        "SELECT serial, not_after_unix_ms FROM certificates WHERE node_id = ?"
        " ORDER BY not_after_unix_ms, serial",
        (node_id,),
    )
    return NodeRecord(
        node_id=node_id,
        pop_id=pop_id,
        enrolled_unix_ms=enrolled_unix_ms,
        engine_kind=engine_kind,
        agent_version=agent_version,
        profile=_profile(*profile),
        certificates=tuple(
            CertificateRecord(int(serial, 16), not_after) for serial, not_after in certificates
        ),
    )


def _profile(
    first_token_ms_p99: float | None,
    prefill_ms_per_token: float,
    max_parallel: int,
    tokens_per_s: float,
    embeds: int,
    lacks_tool_parser: int,
    context_tokens: int,
) -> EngineProfile | None:
    """Return the profile in these columns; None before the node has registered."""
    if first_token_ms_p99 is None:
        return None
    return EngineProfile(
        first_token_ms_p99,
        prefill_ms_per_token,
        max_parallel,
        tokens_per_s,
        bool(embeds),
        bool(lacks_tool_parser),
        context_tokens,
    )


def load_orders(connection: sqlite3.Connection) -> dict[str, NodeOrder]:
    """Return every order by node."""
    rows = connection.execute(
        "SELECT node_id, kind, ordered_by, reason, at_unix_ms, phase, moves, force FROM node_orders"
    )
    return {
        node_id: NodeOrder(
            kind=OrderKind(kind),
            by=by,
            reason=reason,
            at_unix_ms=at_unix_ms,
            phase=Phase(phase) if phase else None,
            moves=tuple(Move(*move) for move in json.loads(moves)),
            force=bool(force),
        )
        for node_id, kind, by, reason, at_unix_ms, phase, moves, force in rows
    }
