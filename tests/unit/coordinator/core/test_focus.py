"""FOCUS rows in the columns and words of the specification."""

from __future__ import annotations

from dataclasses import replace

from coordinator.core import focus
from coordinator.core.invoice_tables import as_focus
from tests.support.invoices import invoice, rows_of


def test_focus_rows_have_the_columns_and_words_of_the_specification():
    rows = rows_of(as_focus([invoice()]))
    assert list(rows[0]) == list(focus.COLUMNS)
    assert {row["ChargeCategory"] for row in rows} == {"Usage", "Credit", "Tax"}
    assert {row["ServiceCategory"] for row in rows} == {"AI and Machine Learning"}
    assert rows[0]["ChargeClass"] == "Correction"
    assert rows[0]["ChargePeriodStart"] == "2028-01-01T00:00:00Z"
    assert rows[1]["BillingPeriodEnd"] == "2028-03-01T00:00:00Z"
    assert rows[1]["ConsumedQuantity"] == "2100000"
    assert rows[1]["PricingQuantity"] == "2.100000"


def test_a_credit_note_is_one_correction():
    note = replace(
        invoice(),
        lines=(),
        deductions=(),
        taxes=(),
        prepaid_cents=0,
        total_cents=-40,
        of_invoice="EF-2028-000001",
        reason="outage",
    )
    (row,) = focus.rows_of(note)
    assert (row["ChargeClass"], row["BilledCost"]) == ("Correction", "-0.40")


def test_decimals_have_a_sign_and_two_places():
    assert [focus.decimal(one) for one in (-5, 0, 123_456)] == ["-0.05", "0.00", "1234.56"]
