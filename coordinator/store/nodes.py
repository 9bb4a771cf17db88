"""Nodes: enrolment, registration, health, intent, replicas, desired replicas, removal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.store.cached_tables import CachedTables, node_record
from protos.domain.errors import NotFound
from protos.domain.resources import (
    DesiredReplica,
    Node,
    NodeHealth,
    NodeIntent,
    Replica,
    ResourceType,
    row_key,
)

if TYPE_CHECKING:
    from coordinator.store.records import NodeRegistration
    from coordinator.store.transaction import Transaction


def enrol(tx: Transaction, node_id: str, pop_id: str, serial: int, not_after_unix_ms: int) -> None:
    """Enrol a node; it is listed in the topology when it first registers."""
    tx.execute(
        "INSERT INTO nodes (id, pop_id, enrolled_unix_ms, engine_kind, agent_version)"
        " VALUES (?, ?, ?, '', '')",
        (node_id, pop_id, tx.now_unix_ms),
    )
    note_certificate(tx, node_id, serial, not_after_unix_ms)


def note_certificate(tx: Transaction, node_id: str, serial: int, not_after_unix_ms: int) -> None:
    """Record a certificate of an enrolled node, and delete the expired ones of all nodes."""
    require_node(tx, node_id)
    tx.execute("DELETE FROM certificates WHERE not_after_unix_ms < ?", (tx.now_unix_ms,))
    tx.execute(
        "INSERT INTO certificates (serial, node_id, not_after_unix_ms) VALUES (?, ?, ?)"
        " ON CONFLICT (serial) DO NOTHING",
        (f"{serial:x}", node_id, not_after_unix_ms),
    )
    _refresh(tx, node_id)


def register(tx: Transaction, registration: NodeRegistration) -> None:
    """Record the registration of an enrolled node."""
    node_id, profile = registration.node_id, registration.profile
    pop_id = require_node(tx, node_id)
    tx.execute(
        "UPDATE nodes SET engine_kind = ?, agent_version = ?, first_token_ms_p99 = ?,"
        " prefill_ms_per_token = ?, max_parallel = ?, tokens_per_s = ?, embeds = ?,"
        " lacks_tool_parser = ?, context_tokens = ? WHERE id = ?",
        (
            registration.engine_kind,
            registration.agent_version,
            profile.first_token_ms_p99,
            profile.prefill_ms_per_token,
            profile.max_parallel,
            profile.tokens_per_s,
            int(profile.embeds),
            int(profile.lacks_tool_parser),
            profile.context_tokens,
            node_id,
        ),
    )
    listed = _listed(tx, node_id)
    tx.put(
        Node(
            id=node_id,
            pop_id=pop_id,
            peer_host=registration.peer_host,
            peer_port=registration.peer_port,
            client_url=registration.client_url,
            health=listed.health if listed else NodeHealth.READY,
            intent=listed.intent if listed else NodeIntent.ACTIVE,
            intent_reason=listed.intent_reason if listed else "",
        )
    )
    _refresh(tx, node_id)


def remove(tx: Transaction, node_id: str) -> None:
    """Delete a node; its certificates are kept, so that its name is not used again."""
    require_node(tx, node_id)
    for key in tx.keys(ResourceType.DEPLOYMENTS, f"replica/{node_id}/"):
        tx.remove(ResourceType.DEPLOYMENTS, key)
    for key in tx.keys(ResourceType.DESIRED, scope=node_id):
        tx.remove(ResourceType.DESIRED, key, node_id)
    tx.remove(ResourceType.TOPOLOGY, f"node/{node_id}")
    tx.execute("DELETE FROM placements WHERE node_id = ?", (node_id,))
    tx.execute("DELETE FROM tokens WHERE node_id = ? AND used_unix_ms IS NULL", (node_id,))
    tx.execute("DELETE FROM node_orders WHERE node_id = ?", (node_id,))
    tx.execute("DELETE FROM nodes WHERE id = ?", (node_id,))

    def forget(cached: CachedTables) -> None:
        cached.nodes.pop(node_id, None)
        cached.orders.pop(node_id, None)
        for name, node_ids in cached.placements.items():
            cached.placements[name] = tuple(other for other in node_ids if other != node_id)

    tx.effects.append(forget)


def set_health(tx: Transaction, healths: Mapping[str, NodeHealth]) -> None:
    """Change the health of listed nodes."""
    for node_id, health in healths.items():
        if (node := _listed(tx, node_id)) is not None:
            tx.put(replace(node, health=health))


def set_intent(tx: Transaction, intents: Mapping[str, tuple[NodeIntent, str]]) -> None:
    """Change the intent of listed nodes, and why."""
    for node_id, (intent, reason) in intents.items():
        if (node := _listed(tx, node_id)) is not None:
            tx.put(replace(node, intent=intent, intent_reason=reason))


def put_replicas(
    tx: Transaction, upserts: Sequence[Replica], removes: Sequence[tuple[str, str]]
) -> None:
    """Write replicas of listed nodes; a late report does not restore a removed node."""
    for node_id, model in removes:
        tx.remove(ResourceType.DEPLOYMENTS, f"replica/{node_id}/{model}")
    for replica in upserts:
        if _listed(tx, replica.node_id) is not None:
            tx.put(replica)


def set_desired(tx: Transaction, node_id: str, desired: Mapping[str, DesiredReplica]) -> None:
    """Replace what an enrolled node should hold by ``desired``."""
    if node_record_exists(tx, node_id):
        wanted = {row_key(replica) for replica in desired.values()}
        for key in tx.keys(ResourceType.DESIRED, scope=node_id):
            if key not in wanted:
                tx.remove(ResourceType.DESIRED, key, node_id)
        for replica in desired.values():
            tx.put(replica, node_id)


def require_node(tx: Transaction, node_id: str) -> str:
    """Return the POP of an enrolled node. Raises: NotFound."""
    found = tx.execute("SELECT pop_id FROM nodes WHERE id = ?", (node_id,)).fetchone()
    if found is None:
        raise NotFound(
            f"no node {node_id!r} is enrolled", "`edgeforge node ls` shows those that are"
        )
    return str(found[0])


def node_record_exists(tx: Transaction, node_id: str) -> bool:
    """Return whether a node is enrolled."""
    return tx.exists("SELECT 1 FROM nodes WHERE id = ?", (node_id,))


def _listed(tx: Transaction, node_id: str) -> Node | None:
    node = tx.get(ResourceType.TOPOLOGY, f"node/{node_id}")
    return node if isinstance(node, Node) else None


def _refresh(tx: Transaction, node_id: str) -> None:
    record = node_record(tx.connection, node_id)
    assert record is not None

    def refresh(cached: CachedTables) -> None:
        cached.nodes[node_id] = record

    tx.effects.append(refresh)
