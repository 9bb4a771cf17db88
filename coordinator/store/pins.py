"""The nodes that deployments are pinned to: a fact, and the deployment's own row for agents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.store.facts import Placement
from protos.domain.resources import Deployment, ResourceType

if TYPE_CHECKING:
    from coordinator.store.transaction import Transaction


def keep(tx: Transaction, deployment: str, node_ids: Iterable[str]) -> tuple[str, ...]:
    """Replace the pins of a deployment, but not in its row; return them in order."""
    ordered = tuple(sorted(set(node_ids)))
    tx.put_fact(Placement(deployment, ordered))
    return ordered


def put(tx: Transaction, deployment: str, node_ids: Iterable[str]) -> None:
    """Replace the pins of a deployment that has not been removed meanwhile.

    Without a pin left it may be served nowhere.
    """
    present = tx.get(ResourceType.DEPLOYMENTS, f"deployment/{deployment}")
    if isinstance(present, Deployment):
        tx.put(replace(present, pins=frozenset(keep(tx, deployment, node_ids))))


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
