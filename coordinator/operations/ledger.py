"""The ledger, to be read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.billing import books
from coordinator.operations.acts import Act
from coordinator.operations.billing_base import BillingUseCases
from coordinator.operations.use_case import use_case

if TYPE_CHECKING:
    from coordinator.billing.books import Audited, Written
    from coordinator.operations.actor import Actor

#: Transactions of one page.
MAX_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class LedgerPage:
    """Transactions, and the balances of all accounts of the ledger."""

    transactions: Sequence[Written]
    balances: Sequence[tuple[str, int]]


class Ledger(BillingUseCases):
    """The double-entry ledger."""

    @use_case(Act.LEDGER_SHOW)
    async def show(self, actor: Actor, account_id: str = "", *, after: int = 0) -> LedgerPage:
        """Return a page of transactions behind number ``after``, in their order, and balances."""
        account = self._scope(actor, account_id)
        page = await self._billing.database.read(
            lambda one: books.transactions(one, account, after=after, limit=MAX_PAGE)
        )
        balances = await self._billing.database.read(books.all_balances)
        return LedgerPage(
            page,
            [one for one in balances if not account or one[0].rpartition("/")[2] == account],
        )

    @use_case(Act.LEDGER_CHECK)
    async def check(self, actor: Actor) -> Audited:
        """Compare the ledger with itself, with the rollups, and with what is left of credits.

        It reads every record that is in the database, on a connection of its own.
        """
        return await self._billing.database.read_apart(books.audit)
