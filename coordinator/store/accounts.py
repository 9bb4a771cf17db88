"""Customers' accounts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.core.members import AccountInfo
from coordinator.store.member_facts import AccountRow
from protos.domain.customers import Account
from protos.domain.errors import Conflict, NotFound
from protos.domain.resources import ResourceType, row_key

if TYPE_CHECKING:
    from coordinator.store.transaction import Transaction, Write
    from protos.domain.customers import AccountState, UsageLimits


def create(account: Account, *, created_by: str = "", email: str = "") -> Write[None]:
    """Create an account. Conflict if the name is taken."""

    def write(tx: Transaction) -> None:
        if tx.get(ResourceType.CREDENTIALS, row_key(account)) is not None:
            raise name_taken(account.id)
        tx.put(account)
        tx.put_fact(AccountRow(AccountInfo(account.id, tx.now_unix_ms, created_by, email)))

    return write


def name_taken(account_id: str) -> Conflict:
    """Return the refusal of a name that an account has."""
    return Conflict(f"account {account_id!r} exists", "choose another name", retryable=False)


def set_state(account_id: str, state: AccountState, reason: str, by: str) -> Write[Account]:
    """Put an account into a state, and keep why and by whom; returns it. NotFound."""

    def write(tx: Transaction) -> Account:
        account = replace(found(tx, account_id), state=state)
        tx.put(account)
        row = tx.fact(AccountRow, account_id)
        info = row.info if row is not None else AccountInfo(account_id)
        now = replace(info, reason=reason, state_since_unix_ms=tx.now_unix_ms, state_by=by)
        tx.put_fact(AccountRow(now))
        return account

    return write


def set_funded(account_id: str, funded: bool) -> Write[Account]:
    """Say whether a balance or a cap bounds what an account spends; returns it. NotFound."""

    def write(tx: Transaction) -> Account:
        account = replace(found(tx, account_id), funded=funded)
        tx.put(account)
        return account

    return write


def set_limits(account_id: str, change: Callable[[UsageLimits], UsageLimits]) -> Write[Account]:
    """Change what an account may use; returns it. NotFound."""

    def write(tx: Transaction) -> Account:
        account = found(tx, account_id)
        changed = replace(account, limits=change(account.limits))
        tx.put(changed)
        return changed

    return write


def require(tx: Transaction, account_id: str) -> None:
    """Raises: NotFound."""
    found(tx, account_id)


def found(tx: Transaction, account_id: str) -> Account:
    """Return an account. Raises: NotFound."""
    account = tx.get(ResourceType.CREDENTIALS, f"account/{account_id}")
    if not isinstance(account, Account):
        raise NotFound(f"there is no account {account_id!r}", "`edgeforge account create` adds one")
    return account
