"""Invoices: drafts, closed months, credit notes, and whom they are addressed to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from coordinator.billing import customers, invoices
from coordinator.core.months import check_month, month_of
from coordinator.operations.acts import Act
from coordinator.operations.billing_base import BillingUseCases
from coordinator.operations.use_case import named, use_case
from protos.domain.errors import NotFound

if TYPE_CHECKING:
    from coordinator.billing.customers import BilledAccount
    from coordinator.billing.invoices import InvoiceRow
    from coordinator.core.invoice_rules import Invoice, Party
    from coordinator.operations.actor import Actor


class Invoices(BillingUseCases):
    """Invoices and credit notes."""

    @use_case(Act.INVOICE_LIST)
    async def list_all(self, actor: Actor, account_id: str = "") -> Sequence[InvoiceRow]:
        """Return invoices and credit notes, the newest first. Raises: NotFound."""
        account = self._scope(actor, account_id)
        return await self._billing.database.read(lambda one: invoices.listed(one, account))

    @use_case(Act.INVOICE_SHOW, named("invoice"))
    async def show(self, actor: Actor, number: str) -> InvoiceRow:
        """Return one. Raises: NotFound, for another account's too."""
        row = await self._billing.database.read(lambda one: invoices.find(one, number))
        if not (actor.role is not None or actor.account_id == row.invoice.account):
            raise NotFound(f"there is no invoice {number[:40]!a}", "list your own invoices")
        return row

    @use_case(Act.INVOICE_PREVIEW, named("account"))
    async def preview(
        self, actor: Actor, account_id: str = "", month: str = ""
    ) -> Sequence[Invoice]:
        """Return what a month has come to so far, or its invoice if it is issued.

        ``account_id`` empty: the own account; for operators one for each account with usage.
        ``month`` empty: the current one, in UTC. Raises: InvalidRequest, NotFound.
        """
        account = self._scope(actor, account_id)
        wanted = check_month(month) if month else month_of(self._parts.now_unix_ms())
        rules = self._billing.rules
        return await self._billing.database.read(
            lambda one: invoices.issued_or_drafts(one, account, wanted, rules)
        )

    @use_case(Act.INVOICE_CLOSE, named("month"))
    async def close(self, actor: Actor, month: str) -> Sequence[Invoice]:
        """Close a month before its grace ends, and issue its invoices; confirms the clock.

        Raises: InvalidRequest, Conflict.
        """
        issued = await self._billing.close_month(check_month(month))
        await self._done(actor, Act.INVOICE_CLOSE, f"month/{month}", f"invoices={len(issued)}")
        return issued

    @use_case(Act.INVOICE_CREDIT_NOTE, named("invoice"))
    async def credit_note(
        self, actor: Actor, number: str, *, cents: int | None, reason: str
    ) -> Invoice:
        """Credit an invoice in part; None: all that is left. Raises: InvalidRequest, NotFound."""
        now = self._parts.now_unix_ms()
        made = await self._billing.database.write(
            lambda one: invoices.credit_note(one, number, cents, reason, now)
        )
        detail = f"{made.number} cents={-made.total_cents}"
        await self._done(actor, Act.INVOICE_CREDIT_NOTE, f"invoice/{number}", detail)
        await self._billing.changed()
        self._billing.wake()
        return made

    @use_case(Act.INVOICE_PROFILE, named("account"))
    async def set_profile(self, actor: Actor, account_id: str, profile: Party) -> BilledAccount:
        """Set whom an account's invoices are addressed to. Raises: InvalidRequest, NotFound."""
        account = self._account(actor, account_id)

        changed = await self._billing.database.write(
            lambda one: customers.change(
                one, account, lambda known: customers.with_profile(known, profile)
            )
        )
        await self._done(actor, Act.INVOICE_PROFILE, f"account/{account}")
        return changed
