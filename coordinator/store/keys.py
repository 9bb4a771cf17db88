"""Customers' keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.store import residency
from coordinator.store.facts import FactType, KeyCreated
from protos.domain.errors import Conflict, NotFound
from protos.domain.resources import Deployment, ResourceType, row_key

if TYPE_CHECKING:
    from coordinator.store.transaction import Transaction, Write
    from protos.domain.customers import ApiKey


def create(key: ApiKey, created_unix_ms: int) -> Write[None]:
    """Create a key for deployments of its own account. NotFound if one of them is unknown.

    InvalidRequest if it may be used where its account may not.
    """

    def write(tx: Transaction) -> None:
        made = residency.with_account_zones(tx, key)
        for name in key.deployments:
            deployment = tx.get(ResourceType.DEPLOYMENTS, f"deployment/{name}")
            if not isinstance(deployment, Deployment) or deployment.account_id != key.account_id:
                raise NotFound(
                    f"account {key.account_id!r} has no deployment {name!r}",
                    "create the deployment first, or leave deployments out: the key opens them all",
                )
        if tx.get(ResourceType.CREDENTIALS, row_key(key)) is not None:
            raise Conflict(f"key {key.id!r} exists")
        tx.put(made)
        tx.put_fact(KeyCreated(key.id, created_unix_ms))

    return write


def revoke(key_id: str) -> Write[None]:
    """Remove a key from the table, which revokes it. NotFound."""

    def write(tx: Transaction) -> None:
        if not tx.remove(ResourceType.CREDENTIALS, f"key/{key_id}"):
            raise NotFound(f"there is no key {key_id!r}", "`edgeforge key ls` shows all")
        tx.remove_fact(FactType.KEY, key_id)

    return write
