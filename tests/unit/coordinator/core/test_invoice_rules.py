"""The rounding rule, totals, numbers, credit notes."""

from __future__ import annotations

import pytest

from coordinator.core import invoice_rules
from coordinator.core.invoice_rules import MonthSums, Party
from coordinator.core.sla_credits import SlaCredit
from coordinator.core.tax import NoTax
from protos.domain.errors import InvalidRequest
from tests.support.billing import CENT, SELLER
from tests.support.invoices import invoice, line


@pytest.mark.parametrize(
    ("nano", "cents"),
    [(0, 0), (CENT // 2 - 1, 0), (CENT // 2, 1), (CENT, 1), (-CENT // 2, -1), (-CENT // 2 + 1, 0)],
)
def test_a_line_is_rounded_half_up(nano, cents):
    assert invoice_rules.cents_of(nano) == cents


def test_totals_are_sums_of_the_cents_that_are_shown():
    made = invoice(*(line(f"d{n}", CENT // 2) for n in range(100)))
    assert made.gross_cents == 100
    assert made.total_nano_usd == 50 * CENT


def test_every_part_of_an_invoice_adds_up():
    made = invoice()
    assert (made.gross_cents, made.net_cents) == (157, 157 - 20 - 15)
    assert (made.tax_cents, made.total_cents, made.due_cents) == (23, 145, 115)


def test_an_empty_month_is_nothing_due():
    sums = MonthSums("acme", "2028-02", ())
    made, amounts = invoice_rules.draft(sums, SELLER, Party("Acme"), NoTax())
    assert (made.due_cents, amounts.unbilled_nano_usd) == (0, 0)


def test_what_an_sla_credit_has_over_the_invoice_is_carried_to_the_nano():
    owed = SlaCredit("acme", "realtime", 10, 0, 95, 10 * CENT, 9 * CENT + 3)
    sums = MonthSums("acme", "2028-02", [line(nano_usd=4 * CENT)], sla=[owed])
    made, _ = invoice_rules.draft(sums, SELLER, Party("Acme"), NoTax())
    assert (made.due_cents, made.sla_carried_nano_usd) == (0, 5 * CENT + 3)


def test_numbers_have_six_digits_and_an_end():
    assert invoice_rules.number_of("EF", 2026, 1) == "EF-2026-000001"
    for serial in (0, 1_000_000):
        with pytest.raises(InvalidRequest):
            invoice_rules.number_of("EF", 2026, serial)


def test_a_reason_of_a_credit_note_is_needed_and_bounded():
    with pytest.raises(InvalidRequest, match="needs a reason"):
        invoice_rules.credit_note_cents(100, 0, 5, "")
    with pytest.raises(InvalidRequest, match="longer than"):
        invoice_rules.credit_note_cents(100, 0, 5, "x" * 501)
    with pytest.raises(InvalidRequest, match="more than nothing"):
        invoice_rules.credit_note_cents(100, 0, 0, "why")
    with pytest.raises(InvalidRequest, match=r"0\.40 USD left"):
        invoice_rules.credit_note_cents(100, 60, 41, "why")
    assert invoice_rules.credit_note_cents(100, 60, None, "why") == 40


def test_amounts_are_read_by_people():
    assert invoice_rules.usd(-123_456_7) == "-12,345.67 USD"
