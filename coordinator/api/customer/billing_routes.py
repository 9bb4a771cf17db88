"""Routes about money: invoices and their documents, credits, payment, alerts on spending."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from coordinator.api.customer.pages import page_of
from coordinator.api.customer.route import Call, Download, Model, PageQuery, Param, Query, Route
from coordinator.billing.documents import CONTENT_TYPES, InvoiceForm, rendered
from coordinator.core.invoice_rules import Party
from coordinator.operations.acts import Act

if TYPE_CHECKING:
    from coordinator.billing.collection import Payment
    from coordinator.billing.invoices import InvoiceRow
    from coordinator.core.invoice_rules import Invoice
    from coordinator.operations.alerts import AlertTargets

NUMBER = Param(r"[A-Za-z0-9-]{1,40}", "An invoice's number.", "INV-2026-000001")
_EXTENSIONS = {"document": "json", "csv": "csv", "focus": "csv", "html": "html", "pdf": "pdf"}
_FORMS = tuple(dict.fromkeys(CONTENT_TYPES[InvoiceForm(form)] for form in _EXTENSIONS))


class InvoiceLineAnswer(Model):
    """What one deployment used in one tier and on one card."""

    month: str
    deployment: str
    tier_billed: str
    sla_tier: str
    card_version: int
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    nano_usd: int
    cents: int


class AmountAnswer(Model):
    """A deduction or a tax."""

    kind: str
    description: str
    cents: int


class InvoiceSummary(Model):
    """An invoice or a credit note in a list."""

    number: str = Field(description="Empty: a draft of the month so far.")
    kind: str
    month: str
    currency: str
    total_cents: int
    due_cents: int
    open_cents: int
    issued_unix_ms: int
    due_unix_ms: int
    of_invoice: str


class InvoiceAnswer(InvoiceSummary):
    """An invoice with its lines."""

    lines: list[InvoiceLineAnswer]
    deductions: list[AmountAnswer]
    tax_cents: int
    net_cents: int
    gross_cents: int
    prepaid_cents: int
    total_nano_usd: int = Field(description="The exact sum of the lines.")
    reason: str


class InvoicePage(Model):
    """Invoices and credit notes by number, drafts not among them."""

    items: list[InvoiceSummary]
    next: str


class PreviewQuery(Query):
    """Of which month."""

    month: str = Field("", pattern=r"^([0-9]{4}-[0-9]{2})?$", description="2026-11; empty: now.")


class DocumentQuery(Query):
    """In which form."""

    form: Literal["document", "csv", "focus", "html", "pdf"] = "pdf"


class ProfileBody(Model):
    """Whom invoices are addressed to."""

    legal_name: str = Field(max_length=200)
    address: str = Field("", max_length=500)
    country: str = Field("", max_length=2, examples=["DE"])
    vat_id: str = Field("", max_length=20)
    email: str = Field("", max_length=254)


class ProfileAnswer(Model):
    """Whom invoices are addressed to."""

    legal_name: str
    address: str
    country: str
    vat_id: str
    email: str


class CreditAnswer(Model):
    """A grant, or money that was paid in advance."""

    id: int
    kind: str
    amount_nano_usd: int
    remaining_nano_usd: int
    created_unix_ms: int
    expires_unix_ms: int = Field(description="0: never.")
    reason: str


class CreditList(Model):
    """Credits, the newest first."""

    items: list[CreditAnswer]


class PaymentAnswer(Model):
    """A payment."""

    key: str
    invoice: str = Field(description="Empty: a top-up of prepaid credit.")
    cents: int
    state: str
    created_unix_ms: int
    error: str


class PaymentStatusAnswer(Model):
    """How the account stands."""

    state: str
    provider: str
    has_card: bool = Field(description="A customer is known to the provider.")
    prepaid: bool
    cap_nano_usd: int = Field(description="A month; 0: none.")
    remaining_nano_usd: int | None = Field(description="Of the balance or cap; null: unlimited.")
    open_invoices: list[InvoiceSummary]
    payments: list[PaymentAnswer]


class CardSetupAnswer(Model):
    """For the customer's browser, which stores the card at the provider."""

    setup_id: str
    client_secret: str


class ChargeBody(Model):
    """What is charged to the stored card: an invoice, or a top-up."""

    invoice: str = Field("", max_length=40)
    top_up_cents: Annotated[int, Field(ge=0, le=100_000_000)] = 0


class AlertsBody(Model):
    """Where alerts at 50, 80 and 100 % go. Left out: as it is; empty: nowhere."""

    url: str | None = Field(None, max_length=1_000)
    email: str | None = Field(None, max_length=254)


class AlertTargetsAnswer(Model):
    """Where alerts go."""

    url: str
    email: str
    secret: str = Field(description="Signs webhooks; shown only when the address is set.")


class DeliveryAnswer(Model):
    """A message that was sent, or is to be."""

    id: str
    channel: str
    target: str
    state: str
    attempts: int
    last_error: str


class AlertsAnswer(Model):
    """Where alerts go, and what was sent."""

    url: str
    email: str
    deliveries: list[DeliveryAnswer]


def _summary(invoice: Invoice, kind: str, open_cents: int) -> dict[str, object]:
    return {
        "number": invoice.number,
        "kind": kind,
        "month": invoice.month,
        "currency": invoice.currency,
        "total_cents": invoice.total_cents,
        "due_cents": invoice.due_cents,
        "open_cents": open_cents,
        "issued_unix_ms": invoice.issued_unix_ms,
        "due_unix_ms": invoice.due_unix_ms,
        "of_invoice": invoice.of_invoice,
    }


def _row(row: InvoiceRow) -> InvoiceSummary:
    return InvoiceSummary.model_validate(_summary(row.invoice, row.kind, row.open_cents))


def _invoice(invoice: Invoice, kind: str, open_cents: int) -> InvoiceAnswer:
    return InvoiceAnswer.model_validate(
        {
            **_summary(invoice, kind, open_cents),
            "lines": [
                {name: getattr(one, name) for name in InvoiceLineAnswer.model_fields}
                for one in invoice.lines
            ],
            "deductions": [
                {"kind": one.kind, "description": one.description, "cents": one.cents}
                for one in invoice.deductions
            ],
            "tax_cents": invoice.tax_cents,
            "net_cents": invoice.net_cents,
            "gross_cents": invoice.gross_cents,
            "prepaid_cents": invoice.prepaid_cents,
            "total_nano_usd": invoice.total_nano_usd,
            "reason": invoice.reason,
        }
    )


async def _list(call: Call) -> InvoicePage:
    asked = call.asked(PageQuery)
    found = await call.operations.invoices.list_all(call.actor)
    page, following = page_of(found, lambda one: one.invoice.number, asked.limit, asked.cursor)
    return InvoicePage(items=[_row(one) for one in page], next=following)


async def _show(call: Call) -> InvoiceAnswer:
    row = await call.operations.invoices.show(call.actor, call.params["number"])
    return _invoice(row.invoice, row.kind, row.open_cents)


async def _document(call: Call) -> Download:
    row = await call.operations.invoices.show(call.actor, call.params["number"])
    form = call.asked(DocumentQuery).form
    content = await asyncio.to_thread(rendered, [row.invoice], InvoiceForm(form))
    name = f"{row.invoice.number}.{_EXTENSIONS[form]}"
    return Download(content, CONTENT_TYPES[InvoiceForm(form)], name)


async def _preview(call: Call) -> InvoiceAnswer:
    month = call.asked(PreviewQuery).month
    # Of the actor's account alone: no account is named.
    (found,) = await call.operations.invoices.preview(call.actor, "", month)
    return _invoice(found, "invoice" if found.number else "draft", 0)


async def _set_profile(call: Call) -> ProfileAnswer:
    body = call.given(ProfileBody)
    party = Party(body.legal_name, body.address, body.country, body.vat_id, body.email)
    kept = await call.operations.invoices.set_profile(call.actor, "", party)
    return ProfileAnswer(
        legal_name=kept.legal_name,
        address=kept.address,
        country=kept.country,
        vat_id=kept.vat_id,
        email=kept.email,
    )


async def _credits(call: Call) -> CreditList:
    found = await call.operations.credits.list_all(call.actor)
    return CreditList(
        items=[
            CreditAnswer(
                id=one.credit.id,
                kind=str(one.credit.kind),
                amount_nano_usd=one.amount_nano_usd,
                remaining_nano_usd=one.credit.remaining_nano_usd,
                created_unix_ms=one.credit.created_unix_ms,
                expires_unix_ms=one.credit.expires_unix_ms,
                reason=one.reason,
            )
            for one in found
        ]
    )


def _payment(one: Payment) -> PaymentAnswer:
    return PaymentAnswer(
        key=one.key,
        invoice=one.number,
        cents=one.cents,
        state=str(one.state),
        created_unix_ms=one.created_unix_ms,
        error=one.error,
    )


async def _status(call: Call) -> PaymentStatusAnswer:
    found = await call.operations.payments.status(call.actor)
    customer = found.customer
    return PaymentStatusAnswer(
        state=found.state,
        provider=found.provider,
        has_card=bool(customer.provider_customer),
        prepaid=customer.prepaid,
        cap_nano_usd=customer.cap_nano_usd,
        remaining_nano_usd=found.remaining_nano_usd,
        open_invoices=[_row(one) for one in found.open_invoices],
        payments=[_payment(one) for one in found.payments],
    )


async def _set_up(call: Call) -> CardSetupAnswer:
    made = await call.operations.payments.set_up(call.actor)
    return CardSetupAnswer(setup_id=made.setup_id, client_secret=made.client_secret)


async def _charge(call: Call) -> PaymentAnswer:
    body = call.given(ChargeBody)
    made = await call.operations.payments.charge(
        call.actor, "", number=body.invoice, top_up_cents=body.top_up_cents
    )
    return _payment(made)


def _targets(targets: AlertTargets) -> AlertTargetsAnswer:
    return AlertTargetsAnswer(url=targets.url, email=targets.email, secret=targets.secret)


async def _set_alerts(call: Call) -> AlertTargetsAnswer:
    body = call.given(AlertsBody)
    return _targets(
        await call.operations.alerts.set_targets(call.actor, "", url=body.url, email=body.email)
    )


async def _alerts(call: Call) -> AlertsAnswer:
    targets, sent = await call.operations.alerts.list_all(call.actor)
    return AlertsAnswer(
        url=targets.url,
        email=targets.email,
        deliveries=[
            DeliveryAnswer(
                id=one.id,
                channel=one.channel,
                target=one.target,
                state=one.state,
                attempts=one.attempts,
                last_error=one.last_error,
            )
            for one in sent
        ],
    )


_NUMBERED = {"number": NUMBER}
ROUTES = (
    Route(
        "GET",
        "/v1/invoices",
        "list_invoices",
        "List invoices and credit notes.",
        _list,
        Act.INVOICE_LIST,
        InvoicePage,
        query=PageQuery,
    ),
    Route(
        "GET",
        "/v1/invoices:preview",
        "preview_invoice",
        "Show what a month has come to so far.",
        _preview,
        Act.INVOICE_PREVIEW,
        InvoiceAnswer,
        query=PreviewQuery,
    ),
    Route(
        "GET",
        "/v1/invoices/{number}",
        "show_invoice",
        "Show an invoice with its lines.",
        _show,
        Act.INVOICE_SHOW,
        InvoiceAnswer,
        params=_NUMBERED,
    ),
    Route(
        "GET",
        "/v1/invoices/{number}/document",
        "download_invoice",
        "Download an invoice as PDF, page, CSV, FOCUS columns or JSON.",
        _document,
        Act.INVOICE_SHOW,
        query=DocumentQuery,
        params=_NUMBERED,
        downloads=_FORMS,
    ),
    Route(
        "PUT",
        "/v1/billing/profile",
        "set_billing_profile",
        "Set whom invoices are addressed to.",
        _set_profile,
        Act.INVOICE_PROFILE,
        ProfileAnswer,
        body=ProfileBody,
    ),
    Route(
        "GET",
        "/v1/credits",
        "list_credits",
        "List grants and prepaid credit.",
        _credits,
        Act.CREDIT_LIST,
        CreditList,
    ),
    Route(
        "GET",
        "/v1/payments",
        "show_payments",
        "Show how the account stands: what is open, what was paid, what remains.",
        _status,
        Act.PAYMENT_STATUS,
        PaymentStatusAnswer,
    ),
    Route(
        "POST",
        "/v1/payments:set-up",
        "set_up_card",
        "Begin to store a card.",
        _set_up,
        Act.PAYMENT_SETUP,
        CardSetupAnswer,
        201,
    ),
    Route(
        "POST",
        "/v1/payments",
        "charge",
        "Charge an invoice, or a top-up of prepaid credit, to the stored card.",
        _charge,
        Act.PAYMENT_CHARGE,
        PaymentAnswer,
        201,
        ChargeBody,
    ),
    Route(
        "GET",
        "/v1/alerts",
        "show_alerts",
        "Show where alerts on spending go, and what was sent.",
        _alerts,
        Act.ALERT_LIST,
        AlertsAnswer,
    ),
    Route(
        "PUT",
        "/v1/alerts",
        "set_alerts",
        "Set where alerts at 50, 80 and 100 % go; a new address of a webhook gets a new secret.",
        _set_alerts,
        Act.ALERT_SET,
        AlertTargetsAnswer,
        body=AlertsBody,
    ),
)
