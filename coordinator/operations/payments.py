"""Payments: cards, charges, money that came in by other means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.billing import collection, customers, invoices
from coordinator.operations.acts import Act
from coordinator.operations.billing_base import BillingUseCases
from coordinator.operations.use_case import named, use_case
from protos.domain.errors import InvalidRequest, LinkDown, NotFound

if TYPE_CHECKING:
    from coordinator.billing.collection import Payment
    from coordinator.billing.customers import BilledAccount
    from coordinator.billing.invoices import InvoiceRow
    from coordinator.billing.payments import CardSetup
    from coordinator.operations.actor import Actor

_MAX_REFERENCE_CHARS = 200


@dataclass(frozen=True, slots=True)
class PaymentStatus:
    """How an account stands. ``remaining_nano_usd`` None: unlimited."""

    customer: BilledAccount
    state: str
    remaining_nano_usd: int | None
    provider: str
    #: None: the provider could not be asked.
    has_card: bool | None
    open_invoices: Sequence[InvoiceRow]
    payments: Sequence[Payment]


class Payments(BillingUseCases):
    """What was paid, and what is owed."""

    @use_case(Act.PAYMENT_STATUS, named("account"))
    async def status(self, actor: Actor, account_id: str = "") -> PaymentStatus:
        """Return how an account stands. Raises: NotFound."""
        account = self._account(actor, account_id)

        database = self._billing.database
        customer = await database.read(lambda one: customers.load(one, account))
        rows = await database.read(lambda one: invoices.listed(one, account))
        payments = await database.read(lambda one: collection.payments_of(one, account))
        return PaymentStatus(
            customer,
            str(self._store.view().accounts[account].state),
            self._billing.remaining_of(account),
            self._billing.collection.provider.name,
            await self._has_card(customer),
            [row for row in rows if row.open_cents],
            payments,
        )

    @use_case(Act.PAYMENT_SETUP, named("account"))
    async def set_up(self, actor: Actor, account_id: str = "") -> CardSetup:
        """Begin to store a card; its secret is for the customer's browser. Raises: LinkDown."""
        account = self._account(actor, account_id)
        customer = await self._billing.collection.customer_of(account)
        made = await self._billing.collection.provider.set_up_card(customer)
        await self._done(actor, Act.PAYMENT_SETUP, f"account/{account}")
        return made

    @use_case(Act.PAYMENT_CHARGE, named("account"))
    async def charge(
        self, actor: Actor, account_id: str, *, number: str = "", top_up_cents: int = 0
    ) -> Payment:
        """Charge an invoice, or a top-up of prepaid credit, to the stored card.

        Raises: InvalidRequest, NotFound, Conflict, LinkDown.
        """
        account = self._account(actor, account_id)
        if bool(number) == bool(top_up_cents):
            raise InvalidRequest(
                "charge an invoice or a top-up, one of both",
                "`edgeforge payment status` shows what is open; a top-up is an amount",
            )
        if number:
            await self._require_invoice(account, number)
        await self._require_card(account)
        if number:
            made = await self._billing.collection.charge_invoice(number)
        else:
            made = await self._billing.collection.top_up(account, top_up_cents)
        detail = f"{made.key} cents={made.cents} {made.state}"
        await self._done(actor, Act.PAYMENT_CHARGE, f"account/{account}", detail)
        await self._billing.changed()
        await self._billing.step_dunning()
        return made

    @use_case(Act.PAYMENT_RECORD, named("account"))
    async def record(self, actor: Actor, account_id: str, number: str, reference: str) -> int:
        """Mark what is open of an invoice as paid by other means; returns the cents.

        Raises: InvalidRequest, NotFound.
        """
        account = self._account(actor, account_id)
        if not reference.strip() or len(reference) > _MAX_REFERENCE_CHARS:
            raise InvalidRequest("say how it was paid, such as the bank's reference")
        await self._require_invoice(account, number)
        now = self._parts.now_unix_ms()

        cents = await self._billing.database.write(
            lambda one: collection.paid_otherwise(one, number, now, reference)
        )
        detail = f"cents={cents} {reference}"
        await self._done(actor, Act.PAYMENT_RECORD, f"invoice/{number}", detail)
        await self._billing.changed()
        await self._billing.step_dunning()
        return cents

    async def _has_card(self, customer: BilledAccount) -> bool | None:
        if not customer.provider_customer:
            return False
        try:
            return await self._billing.collection.provider.has_card(customer.provider_customer)
        except LinkDown:
            return None

    async def _require_card(self, account: str) -> None:
        """Raises: InvalidRequest for an account that has stored none, LinkDown."""
        customer = await self._billing.collection.customer_of(account)
        if not await self._billing.collection.provider.has_card(customer):
            raise InvalidRequest(
                "no card is stored",
                f"store one first: `edgeforge payment setup {account}`",
                code="no_card",
            )

    async def _require_invoice(self, account: str, number: str) -> None:
        row = await self._billing.database.read(lambda one: invoices.find(one, number))
        if row.invoice.account != account:
            raise NotFound(f"{account} has no invoice {number[:40]!a}", "edgeforge invoice ls")
