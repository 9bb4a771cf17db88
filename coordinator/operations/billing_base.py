"""What every use case of money needs: the books, and the account that it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.operations.use_case import UseCases, note_of
from coordinator.store import audit
from protos.domain.errors import NotFound
from protos.domain.ids import check_account_id

if TYPE_CHECKING:
    from coordinator.billing.billing import Billing
    from coordinator.operations.actor import Actor
    from coordinator.operations.acts import Act


class BillingUseCases(UseCases):
    """Base of the use cases about invoices, credits, payments and alerts."""

    @property
    def _billing(self) -> Billing:
        return self._parts.billing

    def _account(self, actor: Actor, account_id: str) -> str:
        """Return the account that is meant, which exists. Raises: InvalidRequest, NotFound."""
        name = check_account_id(actor.own(account_id))
        if name not in self._store.view().accounts:
            raise NotFound(f"there is no account {name!r}", "`edgeforge account ls` lists them")
        return name

    def _scope(self, actor: Actor, account_id: str) -> str:
        """Return the account that a list is of; empty: of everyone, for operators."""
        return self._account(actor, account_id) if account_id or actor.role is None else ""

    async def _done(self, actor: Actor, act: Act, subject: str, detail: str = "") -> None:
        """Audit what was done."""
        await self._store.write(audit.append(note_of(actor, act, subject, detail)))
