"""An invoice in each form that it is given out in."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from coordinator.core.invoice_content import content_of, summary_of
from coordinator.core.invoice_page import page_of
from coordinator.core.invoice_tables import as_csv, as_focus
from protos.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from coordinator.core.invoice_rules import Invoice


class InvoiceForm(enum.StrEnum):
    """Forms of an invoice; SUMMARY is what scripts read, DOCUMENT is all of it, both JSON."""

    SUMMARY = "summary"
    DOCUMENT = "document"
    CSV = "csv"
    FOCUS = "focus"
    HTML = "html"
    PDF = "pdf"


#: Content types, for HTTP.
CONTENT_TYPES = {
    InvoiceForm.SUMMARY: "application/json",
    InvoiceForm.DOCUMENT: "application/json",
    InvoiceForm.CSV: "text/csv; charset=utf-8",
    InvoiceForm.FOCUS: "text/csv; charset=utf-8",
    InvoiceForm.HTML: "text/html; charset=utf-8",
    InvoiceForm.PDF: "application/pdf",
}


def rendered(invoices: Sequence[Invoice], form: InvoiceForm) -> bytes:
    """Return invoices in a form. A PDF costs some 100 ms. Raises: InvalidRequest."""
    match form:
        case InvoiceForm.SUMMARY:
            return json.dumps(summary_of(invoices), ensure_ascii=False).encode()
        case InvoiceForm.CSV:
            return as_csv(invoices).encode()
        case InvoiceForm.FOCUS:
            return as_focus(invoices).encode()
    if len(invoices) != 1:
        raise InvalidRequest(f"a {form} is of one account", "name it")
    (invoice,) = invoices
    if form is InvoiceForm.DOCUMENT:
        return json.dumps(content_of(invoice), ensure_ascii=False).encode()
    if form is InvoiceForm.HTML:
        return page_of(invoice).encode()
    # The library takes half a second to import: in the thread that draws, when it is asked for.
    from coordinator.billing.pdf import as_pdf

    return as_pdf(invoice)
