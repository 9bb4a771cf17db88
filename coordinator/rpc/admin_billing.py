"""Invoices, the ledger, credits, payments and alerts, for operators."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from coordinator.billing.documents import InvoiceForm, rendered
from coordinator.core.invoice_rules import Party
from coordinator.rpc import billing_messages as messages
from coordinator.rpc.admin_base import AdminServicerBase
from protos.domain.errors import InvalidRequest
from protos.v1 import billing_pb2, billing_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.core.invoice_rules import Invoice
    from coordinator.rpc.identity import Context

_FORMS = {
    billing_pb2.INVOICE_FORM_UNSPECIFIED: InvoiceForm.SUMMARY,
    billing_pb2.INVOICE_FORM_SUMMARY: InvoiceForm.SUMMARY,
    billing_pb2.INVOICE_FORM_DOCUMENT: InvoiceForm.DOCUMENT,
    billing_pb2.INVOICE_FORM_CSV: InvoiceForm.CSV,
    billing_pb2.INVOICE_FORM_FOCUS: InvoiceForm.FOCUS,
    billing_pb2.INVOICE_FORM_HTML: InvoiceForm.HTML,
    billing_pb2.INVOICE_FORM_PDF: InvoiceForm.PDF,
}


class BillingService(AdminServicerBase, billing_pb2_grpc.BillingServicer):
    """Every call of ``billing.proto``: a request, a use case, a message."""

    async def ListInvoices(
        self, request: billing_pb2.ListInvoicesRequest, context: Context
    ) -> billing_pb2.ListInvoicesResponse:
        """Return invoices and credit notes."""
        rows = await self._operations.invoices.list_all(self._actor(context), request.account_id)
        return billing_pb2.ListInvoicesResponse(invoices=map(messages.invoice_row, rows))

    async def ShowInvoice(
        self, request: billing_pb2.ShowInvoiceRequest, context: Context
    ) -> billing_pb2.InvoiceDocument:
        """Return one in a form."""
        row = await self._operations.invoices.show(self._actor(context), request.number)
        return await _document([row.invoice], request.form)

    async def PreviewInvoice(
        self, request: billing_pb2.PreviewInvoiceRequest, context: Context
    ) -> billing_pb2.InvoiceDocument:
        """Return the draft of a month."""
        made = await self._operations.invoices.preview(
            self._actor(context), request.account_id, request.month
        )
        return await _document(made, request.form)

    async def CloseMonth(
        self, request: billing_pb2.CloseMonthRequest, context: Context
    ) -> billing_pb2.ListInvoicesResponse:
        """Close a month before its grace has ended."""
        issued = await self._operations.invoices.close(self._actor(context), request.month)
        return billing_pb2.ListInvoicesResponse(invoices=map(messages.issued_row, issued))

    async def CreateCreditNote(
        self, request: billing_pb2.CreateCreditNoteRequest, context: Context
    ) -> billing_pb2.InvoiceDocument:
        """Credit an invoice."""
        note = await self._operations.invoices.credit_note(
            self._actor(context),
            request.number,
            cents=request.cents if request.HasField("cents") else None,
            reason=request.reason,
        )
        return await _document([note], billing_pb2.INVOICE_FORM_DOCUMENT)

    async def SetBillingProfile(
        self, request: billing_pb2.SetBillingProfileRequest, context: Context
    ) -> billing_pb2.SetBillingProfileResponse:
        """Set whom invoices are addressed to."""
        profile = Party(
            *(request.legal_name, request.address, request.country, request.vat_id, request.email)
        )
        await self._operations.invoices.set_profile(
            self._actor(context), request.account_id, profile
        )
        return billing_pb2.SetBillingProfileResponse()

    async def ShowLedger(
        self, request: billing_pb2.ShowLedgerRequest, context: Context
    ) -> billing_pb2.ShowLedgerResponse:
        """Return a page of the ledger."""
        page = await self._operations.ledger.show(
            self._actor(context), request.account_id, after=request.after
        )
        return billing_pb2.ShowLedgerResponse(
            transactions=map(messages.transaction, page.transactions),
            balances=[
                billing_pb2.LedgerEntry(ledger_account=name, nano_usd=nano_usd)
                for name, nano_usd in page.balances
            ],
        )

    async def CheckLedger(
        self, request: billing_pb2.CheckLedgerRequest, context: Context
    ) -> billing_pb2.CheckLedgerResponse:
        """Check the books."""
        return messages.audited(await self._operations.ledger.check(self._actor(context)))

    async def GrantCredit(
        self, request: billing_pb2.GrantCreditRequest, context: Context
    ) -> billing_pb2.CreditRow:
        """Give a credit."""
        actor = self._actor(context)
        given = await self._operations.credits.grant(
            actor,
            request.account_id,
            nano_usd=request.nano_usd,
            reason=request.reason,
            expires_unix_ms=request.expires_unix_ms,
            prepaid=request.prepaid,
        )
        return messages.new_credit(given, request, str(actor))

    async def ListCredits(
        self, request: billing_pb2.ListCreditsRequest, context: Context
    ) -> billing_pb2.ListCreditsResponse:
        """Return credits."""
        rows = await self._operations.credits.list_all(self._actor(context), request.account_id)
        return billing_pb2.ListCreditsResponse(credits=map(messages.credit_row, rows))

    async def SetFunds(
        self, request: billing_pb2.SetFundsRequest, context: Context
    ) -> billing_pb2.SetFundsResponse:
        """Set a cap, or that a balance is needed."""
        kept = await self._operations.credits.set_funds(
            self._actor(context),
            request.account_id,
            cap_nano_usd=request.cap_nano_usd if request.HasField("cap_nano_usd") else None,
            prepaid=request.prepaid if request.HasField("prepaid") else None,
        )
        return billing_pb2.SetFundsResponse(cap_nano_usd=kept.cap_nano_usd, prepaid=kept.prepaid)

    async def ShowPayments(
        self, request: billing_pb2.ShowPaymentsRequest, context: Context
    ) -> billing_pb2.ShowPaymentsResponse:
        """Return how an account stands."""
        status = await self._operations.payments.status(self._actor(context), request.account_id)
        return messages.payment_status(status)

    async def SetUpCard(
        self, request: billing_pb2.SetUpCardRequest, context: Context
    ) -> billing_pb2.SetUpCardResponse:
        """Begin to store a card."""
        made = await self._operations.payments.set_up(self._actor(context), request.account_id)
        return billing_pb2.SetUpCardResponse(
            setup_id=made.setup_id, client_secret=made.client_secret
        )

    async def Charge(
        self, request: billing_pb2.ChargeRequest, context: Context
    ) -> billing_pb2.PaymentRow:
        """Charge an invoice or a top-up."""
        made = await self._operations.payments.charge(
            self._actor(context),
            request.account_id,
            number=request.number,
            top_up_cents=request.top_up_cents,
        )
        return messages.payment_row(made)

    async def RecordPayment(
        self, request: billing_pb2.RecordPaymentRequest, context: Context
    ) -> billing_pb2.RecordPaymentResponse:
        """Mark an invoice as paid by other means."""
        cents = await self._operations.payments.record(
            self._actor(context), request.account_id, request.number, request.reference
        )
        return billing_pb2.RecordPaymentResponse(cents=cents)

    async def SetAlerts(
        self, request: billing_pb2.SetAlertsRequest, context: Context
    ) -> billing_pb2.AlertTargets:
        """Set where alerts go."""
        kept = await self._operations.alerts.set_targets(
            self._actor(context),
            request.account_id,
            url=request.url if request.HasField("url") else None,
            email=request.email if request.HasField("email") else None,
        )
        return messages.alert_targets(kept)

    async def ListAlerts(
        self, request: billing_pb2.ListAlertsRequest, context: Context
    ) -> billing_pb2.ListAlertsResponse:
        """Return where alerts go, and what was sent."""
        targets, sent = await self._operations.alerts.list_all(
            self._actor(context), request.account_id
        )
        return billing_pb2.ListAlertsResponse(
            targets=messages.alert_targets(targets), deliveries=map(messages.delivery, sent)
        )

    async def TestAlerts(
        self, request: billing_pb2.TestAlertsRequest, context: Context
    ) -> billing_pb2.ListAlertsResponse:
        """Send a test."""
        sent = await self._operations.alerts.test(self._actor(context), request.account_id)
        return billing_pb2.ListAlertsResponse(deliveries=map(messages.delivery, sent))


async def _document(
    invoices: Sequence[Invoice], form: billing_pb2.InvoiceForm.ValueType
) -> billing_pb2.InvoiceDocument:
    known = _FORMS.get(form)
    if known is None:
        raise InvalidRequest(f"there is no form {form} of an invoice")
    # A PDF takes long enough to delay the fleet's listeners.
    content = await asyncio.to_thread(rendered, invoices, known)
    number = invoices[0].number if len(invoices) == 1 else ""
    return billing_pb2.InvoiceDocument(number=number, content=content)
