"""Customers' accounts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from protos.domain.customers import Account
from protos.domain.errors import Conflict, NotFound
from protos.domain.resources import ResourceType, row_key

if TYPE_CHECKING:
    from coordinator.store.transaction import Transaction, Write
    from protos.domain.customers import UsageLimits


def create(account: Account) -> Write[None]:
    """Create an account. Conflict if the name is taken."""

    def write(tx: Transaction) -> None:
        if tx.get(ResourceType.CREDENTIALS, row_key(account)) is not None:
            raise Conflict(f"account {account.id!r} exists", "choose another name", retryable=False)
        tx.put(account)

    return write


def set_limits(account_id: str, change: Callable[[UsageLimits], UsageLimits]) -> Write[Account]:
    """Change what an account may use; returns it. NotFound."""

    def write(tx: Transaction) -> Account:
        require(tx, account_id)
        account = tx.get(ResourceType.CREDENTIALS, f"account/{account_id}")
        assert isinstance(account, Account)
        changed = replace(account, limits=change(account.limits))
        tx.put(changed)
        return changed

    return write


def require(tx: Transaction, account_id: str) -> None:
    """Raises: NotFound."""
    if tx.get(ResourceType.CREDENTIALS, f"account/{account_id}") is None:
        raise NotFound(f"there is no account {account_id!r}", "`edgeforge account create` adds one")
