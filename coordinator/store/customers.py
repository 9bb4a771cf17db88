"""Accounts, their keys, and the price card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from coordinator.store.registry import require_account
from protos.domain.errors import Conflict, NotFound
from protos.domain.resources import Account, ApiKey, Deployment, Price, ResourceType, row_key

if TYPE_CHECKING:
    from coordinator.store.cached_tables import CachedTables
    from coordinator.store.transaction import Transaction


def create_account(tx: Transaction, account: Account) -> None:
    """Create an account."""
    if tx.get(ResourceType.CREDENTIALS, row_key(account)) is not None:
        raise Conflict(f"account {account.id!r} exists", "choose another name", retryable=False)
    tx.put(account)


def put_key(tx: Transaction, key: ApiKey, created_unix_ms: int) -> None:
    """Create a key for deployments of its own account."""
    require_account(tx, key.account_id)
    for name in key.deployments:
        deployment = tx.get(ResourceType.DEPLOYMENTS, f"deployment/{name}")
        if not isinstance(deployment, Deployment) or deployment.account_id != key.account_id:
            raise NotFound(
                f"account {key.account_id!r} has no deployment {name!r}",
                "create the deployment first, or leave deployments out: the key opens them all",
            )
    if tx.get(ResourceType.CREDENTIALS, row_key(key)) is not None:
        raise Conflict(f"key {key.id!r} exists")
    tx.put(key)
    tx.execute("INSERT INTO keys (id, created_unix_ms) VALUES (?, ?)", (key.id, created_unix_ms))

    def keep(cached: CachedTables) -> None:
        cached.keys_created_unix_ms[key.id] = created_unix_ms

    tx.effects.append(keep)


def revoke_key(tx: Transaction, key_id: str) -> None:
    """Remove a key."""
    if not tx.remove(ResourceType.CREDENTIALS, f"key/{key_id}"):
        raise NotFound(f"there is no key {key_id!r}", "`edgeforge key ls` shows all")
    tx.execute("DELETE FROM keys WHERE id = ?", (key_id,))

    def forget(cached: CachedTables) -> None:
        cached.keys_created_unix_ms.pop(key_id, None)

    tx.effects.append(forget)


def put_prices(tx: Transaction, prices: Sequence[Price]) -> None:
    """Create or replace lines of the price card."""
    for price in prices:
        tx.put(price)
