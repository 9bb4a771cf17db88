"""The zones of accounts, in every row that follows from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.core.account_zones import (
    check_key_zones,
    narrowed,
    narrowed_rollout,
    nowhere,
    within_account,
)
from coordinator.store.accounts import require
from coordinator.store.deploy_facts import DeployRecord
from protos.domain.customers import Account, ApiKey
from protos.domain.resources import Deployment, NextVersion, ResourceType

if TYPE_CHECKING:
    from coordinator.store.transaction import Transaction, Write
    from protos.domain.resources import Resource


def zones_of(tx: Transaction, account_id: str) -> tuple[str, ...]:
    """Return the zones of an account; empty: anywhere. NotFound."""
    require(tx, account_id)
    account = tx.get(ResourceType.CREDENTIALS, f"account/{account_id}")
    return account.zones if isinstance(account, Account) else ()


def within(tx: Transaction, deployment: Deployment) -> Deployment:
    """Return a deployment in the zones of its account. NotFound, InvalidRequest."""
    return within_account(zones_of(tx, deployment.account_id), deployment)


def with_account_zones(tx: Transaction, key: ApiKey) -> ApiKey:
    """Return a key that knows the zones of its account. NotFound, InvalidRequest."""
    return check_key_zones(zones_of(tx, key.account_id), key)


def set_zones(account_id: str, zones: tuple[str, ...]) -> Write[Account]:
    """Bind an account to zones; empty: to none. Its keys and deployments are only ever narrowed.

    Raises: NotFound; Conflict if a key or a deployment would be left without any zone.
    """

    def write(tx: Transaction) -> Account:
        require(tx, account_id)
        account = tx.get(ResourceType.CREDENTIALS, f"account/{account_id}")
        assert isinstance(account, Account)
        changed = replace(account, zones=zones)
        tx.put(changed)
        stranded: list[str] = []
        for key in _of_account(tx, ResourceType.CREDENTIALS, "key/", account_id):
            assert isinstance(key, ApiKey)
            if zones and key.zones and not set(key.zones) & set(zones):
                stranded.append(f"key {key.id}")
            tx.put(replace(key, account_zones=zones))
        for row in _of_account(tx, ResourceType.DEPLOYMENTS, "deployment/", account_id):
            assert isinstance(row, Deployment)
            left = narrowed(zones, row)
            if left is None:
                stranded.append(f"deployment {row.name!r}")
                continue
            record = tx.fact(DeployRecord, row.name)
            if record is not None and record.rollout is not None:
                rollout = narrowed_rollout(zones, record.rollout)
                tx.put_fact(replace(record, rollout=rollout))
                if row.next is not None and rollout is not None:
                    left = replace(left, next=_next(row.next, rollout.other))
            tx.put(left)
        if stranded:
            raise nowhere(zones, stranded)
        return changed

    return write


def _next(present: NextVersion, other: Deployment) -> NextVersion:
    return replace(present, residency_zones=other.residency_zones)


def _of_account(
    tx: Transaction, rows_of: ResourceType, prefix: str, account_id: str
) -> Iterator[Resource]:
    for key in tx.keys(rows_of, prefix):
        resource = tx.get(rows_of, key)
        if isinstance(resource, ApiKey | Deployment) and resource.account_id == account_id:
            yield resource
