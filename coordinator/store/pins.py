"""The nodes that deployments are pinned to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from coordinator.store.facts import Placement
from protos.domain.resources import ResourceType

if TYPE_CHECKING:
    from coordinator.store.transaction import Transaction


def keep(tx: Transaction, deployment: str, node_ids: Iterable[str]) -> tuple[str, ...]:
    """Replace the pins of a deployment; return them in order."""
    ordered = tuple(sorted(set(node_ids)))
    tx.put_fact(Placement(deployment, ordered))
    return ordered


def put(tx: Transaction, deployment: str, node_ids: Iterable[str]) -> None:
    """Replace the pins of a deployment that has not been removed meanwhile."""
    if tx.get(ResourceType.DEPLOYMENTS, f"deployment/{deployment}") is not None:
        keep(tx, deployment, node_ids)


def remove_node(tx: Transaction, node_id: str) -> None:
    """Remove a node from the pins of every deployment."""
    for placement in _with_node(tx, node_id):
        put(tx, placement.deployment, {*placement.node_ids} - {node_id})


def replace_node(tx: Transaction, old_id: str, new_id: str) -> list[str]:
    """Pin to one node what is pinned to another; return those deployments, in order."""
    found = _with_node(tx, old_id)
    for placement in found:
        put(tx, placement.deployment, {*placement.node_ids, new_id} - {old_id})
    return [placement.deployment for placement in found]


def _with_node(tx: Transaction, node_id: str) -> list[Placement]:
    return [one for one in tx.facts(Placement) if node_id in one.node_ids]
