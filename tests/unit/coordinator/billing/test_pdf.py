"""Invoices as PDF: the same bytes each time, whatever the names."""

from __future__ import annotations

import pytest

from coordinator.billing.documents import InvoiceForm, rendered
from coordinator.billing.pdf import as_pdf
from protos.domain.errors import InvalidRequest
from tests.support.invoices import HOSTILE, invoice, line


def test_a_pdf_is_the_same_bytes_for_the_same_invoice_and_embeds_its_typeface():
    made = invoice()
    first = as_pdf(made)
    assert first == as_pdf(made)
    assert b"OpenSans" in first
    assert b"/FontFile2" in first


def test_a_pdf_takes_any_name_and_marks_what_its_typeface_lacks():
    for name in ("Ωμέγα Żółć Юникод", "株式会社", "\u202egnp.exe", "a" * 5_000, HOSTILE, "**x**"):
        assert as_pdf(invoice(line(name))).startswith(b"%PDF")


def test_a_long_invoice_has_more_than_one_page():
    made = invoice(*(line(f"deployment-{number}") for number in range(120)))
    assert as_pdf(made).count(b"/Type /Page\n") > 1


@pytest.mark.parametrize("form", list(InvoiceForm))
def test_every_form_is_given_of_one_account_and_tables_of_many(form):
    assert rendered([invoice()], form)
    if form in (InvoiceForm.DOCUMENT, InvoiceForm.HTML, InvoiceForm.PDF):
        with pytest.raises(InvalidRequest, match="of one account"):
            rendered([invoice(), invoice()], form)
    else:
        assert rendered([invoice(), invoice()], form)
