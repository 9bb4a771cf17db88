"""Messages of ``billing.proto`` from values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.v1 import billing_pb2

if TYPE_CHECKING:
    from coordinator.billing.account_credits import CreditRow
    from coordinator.billing.alerting import Delivery
    from coordinator.billing.books import Audited, Written
    from coordinator.billing.collection import Payment
    from coordinator.billing.invoices import InvoiceRow
    from coordinator.core.grants import Credit
    from coordinator.core.invoice_rules import Invoice
    from coordinator.operations.alerts import AlertTargets
    from coordinator.operations.payments import PaymentStatus


def issued_row(one: Invoice) -> billing_pb2.InvoiceRow:
    """Return an invoice that was just issued."""
    return billing_pb2.InvoiceRow(
        number=one.number,
        kind="credit_note" if one.of_invoice else "invoice",
        account_id=one.account,
        month=one.month,
        issued_unix_ms=one.issued_unix_ms,
        due_unix_ms=one.due_unix_ms,
        total_cents=one.total_cents,
        due_cents=one.due_cents,
        open_cents=max(0, one.due_cents),
        of_invoice=one.of_invoice,
    )


def invoice_row(row: InvoiceRow) -> billing_pb2.InvoiceRow:
    """Return an invoice of a list."""
    made = issued_row(row.invoice)
    made.open_cents = row.open_cents
    made.last_error = row.last_error
    return made


def transaction(one: Written) -> billing_pb2.LedgerTransaction:
    """Return a transaction of the ledger."""
    posting = one.posting
    return billing_pb2.LedgerTransaction(
        number=one.number,
        kind=posting.kind,
        account_id=posting.account,
        month=posting.month,
        at_unix_ms=posting.at_unix_ms,
        reference=posting.reference,
        entries=[
            billing_pb2.LedgerEntry(ledger_account=entry.ledger_account, nano_usd=entry.nano_usd)
            for entry in posting.entries
        ],
    )


def audited(found: Audited) -> billing_pb2.CheckLedgerResponse:
    """Return the result of a check."""
    return billing_pb2.CheckLedgerResponse(
        transactions=found.transactions,
        entries=found.entries,
        usage_nano_usd=found.usage_nano_usd,
        rollup_nano_usd=found.rollup_nano_usd,
        raw_nano_usd=found.raw_nano_usd,
        problems=found.problems,
    )


def new_credit(
    given: Credit, request: billing_pb2.GrantCreditRequest, given_by: str
) -> billing_pb2.CreditRow:
    """Return a credit that was just given."""
    return billing_pb2.CreditRow(
        id=given.id,
        account_id=request.account_id,
        kind=given.kind.value,
        amount_nano_usd=given.remaining_nano_usd,
        remaining_nano_usd=given.remaining_nano_usd,
        created_unix_ms=given.created_unix_ms,
        expires_unix_ms=given.expires_unix_ms,
        reason=request.reason,
        given_by=given_by,
    )


def credit_row(row: CreditRow) -> billing_pb2.CreditRow:
    """Return a credit of a list."""
    return billing_pb2.CreditRow(
        id=row.credit.id,
        account_id=row.account,
        kind=row.credit.kind.value,
        amount_nano_usd=row.amount_nano_usd,
        remaining_nano_usd=row.credit.remaining_nano_usd,
        created_unix_ms=row.credit.created_unix_ms,
        expires_unix_ms=row.credit.expires_unix_ms,
        reason=row.reason,
        given_by=row.given_by,
    )


def payment_row(one: Payment) -> billing_pb2.PaymentRow:
    """Return a payment."""
    return billing_pb2.PaymentRow(
        key=one.key,
        number=one.number,
        cents=one.cents,
        state=one.state.value,
        created_unix_ms=one.created_unix_ms,
        provider_id=one.provider_id,
        error=one.error,
    )


def payment_status(status: PaymentStatus) -> billing_pb2.ShowPaymentsResponse:
    """Return how an account stands."""
    return billing_pb2.ShowPaymentsResponse(
        account_id=status.customer.account,
        state=status.state,
        provider=status.provider,
        has_customer=bool(status.customer.provider_customer),
        prepaid=status.customer.prepaid,
        cap_nano_usd=status.customer.cap_nano_usd,
        own_cap_nano_usd=status.customer.own_cap_nano_usd,
        remaining_nano_usd=status.remaining_nano_usd,
        open_invoices=map(invoice_row, status.open_invoices),
        payments=map(payment_row, status.payments),
    )


def alert_targets(one: AlertTargets) -> billing_pb2.AlertTargets:
    """Return where alerts go."""
    return billing_pb2.AlertTargets(
        account_id=one.account, url=one.url, email=one.email, secret=one.secret
    )


def delivery(one: Delivery) -> billing_pb2.AlertDelivery:
    """Return what was sent, or waits."""
    return billing_pb2.AlertDelivery(
        id=one.id,
        channel=one.channel,
        target=one.target,
        state=one.state,
        attempts=one.attempts,
        last_error=one.last_error,
        body=one.body,
    )
