"""Nodes: enrolment, registration, health, intent, removal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.store import pins
from coordinator.store.fact_types import FactType
from coordinator.store.facts import Certificates, EnrolledNode
from coordinator.store.records import CertificateRecord
from protos.domain.errors import Conflict, NotFound
from protos.domain.resources import Node, NodeHealth, NodeIntent, ResourceType

if TYPE_CHECKING:
    from coordinator.store.records import NodeRegistration
    from coordinator.store.transaction import Transaction, Write


def enrol(node_id: str, pop_id: str, serial: int, not_after_unix_ms: int) -> Write[None]:
    """Enrol a node; it is listed in the topology when it first registers. Conflict if it is."""

    def write(tx: Transaction) -> None:
        if is_enrolled(tx, node_id):
            raise Conflict(f"node {node_id!r} is enrolled", "remove it first", retryable=False)
        tx.put_fact(EnrolledNode(node_id, pop_id, tx.now_unix_ms))
        note_certificate(node_id, serial, not_after_unix_ms)(tx)

    return write


def note_certificate(node_id: str, serial: int, not_after_unix_ms: int) -> Write[None]:
    """Record a certificate issued to an enrolled node; its expired ones are forgotten. NotFound."""

    def write(tx: Transaction) -> None:
        require(tx, node_id)
        added = CertificateRecord(serial, not_after_unix_ms)
        kept = {one.serial: one for one in _unexpired(tx, node_id)}
        kept.setdefault(serial, added)
        ordered = sorted(kept.values(), key=lambda one: (one.not_after_unix_ms, one.serial))
        tx.put_fact(Certificates(node_id, tuple(ordered)))

    return write


def register(registration: NodeRegistration) -> Write[None]:
    """Record the registration of an enrolled node, and list it in the topology.

    Health and intent of a listed node stay; a new one is READY and ACTIVE. NotFound if removed.
    """

    def write(tx: Transaction) -> None:
        node_id = registration.node_id
        enrolled = require(tx, node_id)
        tx.put_fact(
            replace(
                enrolled,
                engine_kind=registration.engine_kind,
                agent_version=registration.agent_version,
                profile=registration.profile,
                hardware=registration.hardware,
            )
        )
        before = listed(tx, node_id)
        tx.put(
            Node(
                id=node_id,
                pop_id=enrolled.pop_id,
                peer_host=registration.peer_host,
                peer_port=registration.peer_port,
                client_url=registration.client_url,
                health=before.health if before else NodeHealth.READY,
                intent=before.intent if before else NodeIntent.ACTIVE,
                intent_reason=before.intent_reason if before else "",
            )
        )

    return write


def remove(node_id: str) -> Write[None]:
    """Remove a node, its replicas, pins, order and desired rows, which revokes it. NotFound.

    Its certificates are kept, so that its name is not given again while one of them is valid.
    """

    def write(tx: Transaction) -> None:
        require(tx, node_id)
        for key in tx.keys(ResourceType.DEPLOYMENTS, f"replica/{node_id}/"):
            tx.remove(ResourceType.DEPLOYMENTS, key)
        for key in tx.keys(ResourceType.DESIRED, scope=node_id):
            tx.remove(ResourceType.DESIRED, key, node_id)
        tx.remove(ResourceType.TOPOLOGY, f"node/{node_id}")
        pins.remove_node(tx, node_id)
        tx.remove_fact(FactType.NODE_ORDER, node_id)
        tx.remove_fact(FactType.NODE, node_id)
        tx.change(
            "DELETE FROM tokens WHERE purpose = 'node' AND name = ? AND used_unix_ms IS NULL",
            (node_id,),
        )

    return write


def replace_by(old_id: str, new_id: str) -> Write[list[str]]:
    """Give the pins of one enrolled node to another and remove it; return whose. NotFound."""

    def write(tx: Transaction) -> list[str]:
        require(tx, old_id)
        require(tx, new_id)
        moved = pins.replace_node(tx, old_id, new_id)
        remove(old_id)(tx)
        return moved

    return write


def set_health(healths: Mapping[str, NodeHealth]) -> Write[None]:
    """Set the health of the listed nodes; unlisted ones are ignored."""

    def write(tx: Transaction) -> None:
        for node_id, health in healths.items():
            if (node := listed(tx, node_id)) is not None:
                tx.put(replace(node, health=health))

    return write


def set_intent(intents: Mapping[str, tuple[NodeIntent, str]]) -> Write[None]:
    """Set the intent of the listed nodes, and why; unlisted ones are ignored."""

    def write(tx: Transaction) -> None:
        for node_id, (intent, reason) in intents.items():
            if (node := listed(tx, node_id)) is not None:
                tx.put(replace(node, intent=intent, intent_reason=reason))

    return write


def forget_expired_names() -> Write[None]:
    """Forget removed nodes whose certificates have all expired."""

    def write(tx: Transaction) -> None:
        for one in tx.facts(Certificates):
            if not (_unexpired(tx, one.node_id) or is_enrolled(tx, one.node_id)):
                tx.remove_fact(FactType.CERTIFICATES, one.node_id)

    return write


def require(tx: Transaction, node_id: str) -> EnrolledNode:
    """Return an enrolled node. Raises: NotFound."""
    found = tx.fact(EnrolledNode, node_id)
    if found is None:
        raise NotFound(
            f"no node {node_id!r} is enrolled", "`edgeforge node ls` shows those that are"
        )
    return found


def is_enrolled(tx: Transaction, node_id: str) -> bool:
    """Return whether a node is enrolled."""
    return tx.fact(EnrolledNode, node_id) is not None


def has_certificate(tx: Transaction, node_id: str) -> bool:
    """Return whether a certificate in this name, of a removed node too, has not expired."""
    return bool(_unexpired(tx, node_id))


def listed(tx: Transaction, node_id: str) -> Node | None:
    """Return a node's row in the topology."""
    node = tx.get(ResourceType.TOPOLOGY, f"node/{node_id}")
    return node if isinstance(node, Node) else None


def _unexpired(tx: Transaction, node_id: str) -> list[CertificateRecord]:
    known = tx.fact(Certificates, node_id)
    certificates = known.certificates if known else ()
    return [one for one in certificates if one.not_after_unix_ms >= tx.now_unix_ms]
