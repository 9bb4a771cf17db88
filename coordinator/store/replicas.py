"""Replicas as nodes report them, and those that nodes should hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from coordinator.store import nodes
from protos.domain.resources import DesiredAdapter, DesiredReplica, Replica, ResourceType, row_key

if TYPE_CHECKING:
    from coordinator.store.transaction import Transaction, Write


def report(upserts: Sequence[Replica], removes: Sequence[tuple[str, str]]) -> Write[None]:
    """Write and remove ``(node_id, key)`` replicas; those of unlisted nodes are ignored.

    A late report does not restore a removed node.
    """

    def write(tx: Transaction) -> None:
        for node_id, key in removes:
            tx.remove(ResourceType.DEPLOYMENTS, f"replica/{node_id}/{key}")
        for replica in upserts:
            if nodes.listed(tx, replica.node_id) is not None:
                tx.put(replica)

    return write


def set_desired(
    node_id: str, desired: Mapping[str, DesiredReplica | DesiredAdapter]
) -> Write[None]:
    """Replace what ``node_id`` should hold; ignored for a removed node."""

    def write(tx: Transaction) -> None:
        if not nodes.is_enrolled(tx, node_id):
            return
        wanted = {row_key(replica) for replica in desired.values()}
        for key in tx.keys(ResourceType.DESIRED, scope=node_id):
            if key not in wanted:
                tx.remove(ResourceType.DESIRED, key, node_id)
        for replica in desired.values():
            tx.put(replica, node_id)

    return write
