"""Accounts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from coordinator.operations.acts import Act
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import accounts
from protos.domain.ids import check_account_id
from protos.domain.resources import Account

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor


class Accounts(UseCases):
    """Customers."""

    @use_case(Act.ACCOUNT_CREATE, named("account"))
    async def create(self, actor: Actor, account_id: str) -> str:
        """Create an account and return its name. Raises: InvalidRequest, Conflict."""
        check_account_id(account_id)
        note = note_of(actor, Act.ACCOUNT_CREATE, f"account/{account_id}")
        await self._store.write(accounts.create(Account(account_id)), note)
        return account_id

    @use_case(Act.ACCOUNT_LIST)
    async def list_all(self, actor: Actor) -> Sequence[str]:
        """Return the name of every account."""
        return sorted(self._store.view().accounts)
