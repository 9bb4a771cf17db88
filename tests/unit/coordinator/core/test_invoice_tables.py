"""Invoices as CSV, with names that are formulas."""

from __future__ import annotations

import pytest

from coordinator.core.invoice_rules import Party
from coordinator.core.invoice_tables import as_csv, as_focus, plain_cell
from tests.support.invoices import HOSTILE, invoice, line, rows_of


def test_amounts_of_the_csv_and_of_focus_sum_to_what_is_due():
    made = invoice()
    for text, column in ((as_csv([made]), "amount_usd"), (as_focus([made]), "BilledCost")):
        cents = sum(round(float(row[column]) * 100) for row in rows_of(text))
        assert cents == made.due_cents
    kinds = [row["kind"] for row in rows_of(as_csv([made]))]
    assert kinds == ["adjustment", "usage", "grant", "sla_credit", "tax", "prepaid"]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1+1", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\uff1d1"]
)
def test_formulas_of_hostile_names_stay_text_in_a_spreadsheet(text):
    assert plain_cell(text) == "'" + text


@pytest.mark.parametrize("value", [-5, "-0.05", "12", "plain", "a=b"])
def test_numbers_and_plain_text_stay_as_they_are(value):
    assert plain_cell(value) == str(value)


def test_a_hostile_deployment_is_text_in_every_column():
    made = invoice(line(HOSTILE), customer=Party(HOSTILE, HOSTILE, "DE"))
    assert rows_of(as_csv([made]))[0]["deployment"] == "'" + HOSTILE
    rows = rows_of(as_focus([made]))
    assert all(not value.startswith("=") for row in rows for value in row.values())
