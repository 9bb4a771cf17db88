"""Customers' keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.store import residency
from coordinator.store.facts import FactType, KeyCreated
from protos.domain.customers import ApiKey
from protos.domain.errors import Conflict, NotFound
from protos.domain.resources import Deployment, ResourceType, row_key

if TYPE_CHECKING:
    from coordinator.store.transaction import Transaction, Write

#: How long an expired key is shown before its row is removed.
KEPT_EXPIRED_MS = 30 * 24 * 3_600_000


def create(
    key: ApiKey, created_unix_ms: int, created_by: str = "", forget: Iterable[str] = ()
) -> Write[None]:
    """Create a key for deployments of its own account. NotFound if one of them is unknown.

    InvalidRequest if it may be used where its account may not. ``forget`` are keys of the account
    that may have expired long ago; those that have are removed.
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
        _forget_expired(tx, key.account_id, forget)
        _put_new(tx, made, KeyCreated(key.id, created_unix_ms, created_by))

    return write


def rotate(
    key_id: str, account_id: str, new_id: str, digest: bytes, *, grace_ms: int, created_by: str
) -> Write[ApiKey]:
    """Make a key with the scopes of another one, which ends after ``grace_ms``; return the new.

    ``account_id``: whose key it must be; empty: anyone's. NotFound, and Conflict for a key that
    has expired or was rotated already.
    """

    def write(tx: Transaction) -> ApiKey:
        old = found(tx, key_id, account_id)
        now_unix_ms = tx.now_unix_ms
        if 0 < old.expires_unix_ms <= now_unix_ms:
            raise Conflict(f"key {key_id!r} has expired", "create another key", retryable=False)
        made = tx.fact(KeyCreated, key_id) or KeyCreated(key_id, now_unix_ms)
        if made.replaced_by and tx.get(ResourceType.CREDENTIALS, f"key/{made.replaced_by}"):
            raise Conflict(
                f"key {key_id!r} was rotated already",
                f"rotate the one that replaces it, {made.replaced_by}",
                retryable=False,
            )
        new = replace(old, id=new_id, digest=digest)
        ends_unix_ms = now_unix_ms + grace_ms
        if old.expires_unix_ms:
            ends_unix_ms = min(ends_unix_ms, old.expires_unix_ms)
        _put_new(tx, new, KeyCreated(new_id, now_unix_ms, created_by, key_id))
        tx.put(replace(old, expires_unix_ms=ends_unix_ms))
        tx.put_fact(replace(made, replaced_by=new_id))
        return new

    return write


def revoke(key_id: str, account_id: str = "") -> Write[None]:
    """Remove a key from the table, which revokes it. NotFound, also for another account's."""

    def write(tx: Transaction) -> None:
        found(tx, key_id, account_id)
        _remove(tx, key_id)

    return write


def found(tx: Transaction, key_id: str, account_id: str = "") -> ApiKey:
    """Return a key. Raises: NotFound, also if it is not of ``account_id``."""
    key = tx.get(ResourceType.CREDENTIALS, f"key/{key_id}")
    if not isinstance(key, ApiKey) or account_id not in ("", key.account_id):
        raise NotFound(f"there is no key {key_id!r}", "`edgeforge key ls` shows all")
    return key


def _put_new(tx: Transaction, key: ApiKey, created: KeyCreated) -> None:
    if tx.get(ResourceType.CREDENTIALS, row_key(key)) is not None:
        raise Conflict(f"key {key.id!r} exists")
    tx.put(key)
    tx.put_fact(created)


def _forget_expired(tx: Transaction, account_id: str, key_ids: Iterable[str]) -> None:
    """Remove those keys of an account that expired long ago."""
    for key_id in key_ids:
        key = tx.get(ResourceType.CREDENTIALS, f"key/{key_id}")
        if (
            isinstance(key, ApiKey)
            and key.account_id == account_id
            and 0 < key.expires_unix_ms < tx.now_unix_ms - KEPT_EXPIRED_MS
        ):
            _remove(tx, key.id)


def _remove(tx: Transaction, key_id: str) -> None:
    tx.remove(ResourceType.CREDENTIALS, f"key/{key_id}")
    tx.remove_fact(FactType.KEY, key_id)
