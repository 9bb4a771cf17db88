"""Routes about invoices: lists, drafts, documents, and whom they are addressed to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from coordinator.api.customer.pages import page_of
from coordinator.api.customer.route import Call, Download, Model, PageQuery, Param, Query, Route
from coordinator.billing.documents import CONTENT_TYPES, InvoiceForm, rendered
from coordinator.core.invoice_rules import Party
from coordinator.operations.acts import Act

if TYPE_CHECKING:
    from coordinator.billing.invoices import InvoiceRow
    from coordinator.core.invoice_rules import Invoice

NUMBER = Param(r"[A-Za-z0-9-]{1,40}", "An invoice's number.", "EF-2026-000001")
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


def summary_of(row: InvoiceRow) -> InvoiceSummary:
    """Return an invoice as a list shows it."""
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
    return InvoicePage(items=[summary_of(one) for one in page], next=following)


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
)
