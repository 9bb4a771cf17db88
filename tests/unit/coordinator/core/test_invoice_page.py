"""Invoices as HTML."""

from __future__ import annotations

from coordinator.core.invoice_page import page_of
from coordinator.core.invoice_rules import Party
from tests.support.invoices import HOSTILE, invoice, line


def test_a_page_names_adjustments_and_the_rounding_rule():
    page = page_of(invoice())
    assert "adjustment, used in 2028-01" in page
    assert "rounded half up to a cent, once" in page
    assert page == page_of(invoice())


def test_hostile_names_are_text():
    page = page_of(invoice(line(HOSTILE), customer=Party(HOSTILE, HOSTILE, "DE")))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 3
