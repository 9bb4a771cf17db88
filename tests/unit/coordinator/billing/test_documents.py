"""Invoices as JSON, CSV, FOCUS, HTML and PDF, with hostile names."""

from __future__ import annotations

import csv
import io
import json
import zlib

import pytest

from coordinator.billing.pdf import as_pdf
from coordinator.core import focus, invoice_rules
from coordinator.core.invoice_content import content_of, invoice_of, summary_of
from coordinator.core.invoice_page import page_of
from coordinator.core.invoice_rules import Invoice, MonthSums, Party, UsageLine
from coordinator.core.invoice_tables import as_csv, as_focus, plain_cell
from coordinator.core.sla_credits import SlaCredit
from coordinator.core.tax import VatTable
from tests.support.billing import CENT, SELLER

HOSTILE = '=HYPERLINK("http://evil.example")<script>alert(1)</script>'


def line(deployment: str = "chat", nano_usd: int = 150 * CENT, month: str = "2028-02") -> UsageLine:
    return UsageLine(
        *(month, deployment, "edge", "realtime", 3, 1_000, 2_000_000, 500_000, 100_000, nano_usd)
    )


def invoice(*lines: UsageLine, customer: Party | None = None) -> Invoice:
    sums = MonthSums(
        "acme",
        "2028-02",
        lines or (line(), line("late", 7 * CENT, "2028-01")),
        grants_nano_usd=20 * CENT,
        prepaid_nano_usd=30 * CENT,
        sla=[SlaCredit("acme", "realtime", 10, 9, 95, 150 * CENT, 15 * CENT)],
    )
    who = customer or Party("Zażółć GmbH", "Straße 1\n10115 Berlin", "DE", "", "cfo@acme.example")
    made, _ = invoice_rules.draft(sums, SELLER, who, VatTable("DE", {"DE": 1_900}))
    return made


def test_the_json_form_is_read_back_whole():
    made = invoice()
    assert invoice_of(json.loads(json.dumps(content_of(made)))) == made


def test_scripts_get_exactly_these_keys_and_their_lines_sum_to_the_total():
    summary = summary_of([invoice()])
    assert sorted(summary) == [
        *("completion_tokens", "lines", "prompt_tokens", "requests", "total_nano_usd")
    ]
    assert sum(one["nano_usd"] for one in summary["lines"]) == summary["total_nano_usd"]
    assert summary["requests"] == 2_000


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_amounts_of_the_csv_and_of_focus_sum_to_what_is_due():
    made = invoice()
    for text, column in ((as_csv([made]), "amount_usd"), (as_focus([made]), "BilledCost")):
        cents = sum(round(float(row[column]) * 100) for row in rows_of(text))
        assert cents == made.due_cents
    kinds = [row["kind"] for row in rows_of(as_csv([made]))]
    assert kinds == ["adjustment", "usage", "grant", "sla_credit", "tax", "prepaid"]


def test_focus_rows_have_the_columns_and_words_of_the_specification():
    rows = rows_of(as_focus([invoice()]))
    assert list(rows[0]) == list(focus.COLUMNS)
    assert {row["ChargeCategory"] for row in rows} == {"Usage", "Credit", "Tax"}
    assert {row["ServiceCategory"] for row in rows} == {"AI and Machine Learning"}
    assert rows[0]["ChargeClass"] == "Correction"
    assert rows[0]["ChargePeriodStart"] == "2028-01-01T00:00:00Z"
    assert rows[1]["BillingPeriodEnd"] == "2028-03-01T00:00:00Z"


@pytest.mark.parametrize(
    "text", ["=1+1", "+1+1", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\uff1d1"]
)
def test_formulas_of_hostile_names_stay_text_in_a_spreadsheet(text):
    assert plain_cell(text) == "'" + text


@pytest.mark.parametrize("value", [-5, "-0.05", "12", "plain", "a=b"])
def test_numbers_and_plain_text_stay_as_they_are(value):
    assert plain_cell(value) == str(value)


def test_a_hostile_deployment_is_harmless_in_every_document():
    made = invoice(line(HOSTILE), customer=Party(HOSTILE, HOSTILE, "DE"))
    assert rows_of(as_csv([made]))[0]["deployment"] == "'" + HOSTILE
    assert all(not row[name].startswith("=") for row in rows_of(as_focus([made])) for name in row)
    page = page_of(made)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert as_pdf(made).startswith(b"%PDF")


def test_a_pdf_is_the_same_bytes_for_the_same_invoice_and_embeds_its_typeface():
    made = invoice()
    first = as_pdf(made)
    assert first == as_pdf(made)
    assert b"OpenSans" in first
    assert b"/FontFile2" in first


def test_a_pdf_prints_names_outside_of_ascii_and_a_mark_for_what_its_typeface_lacks():
    for name in ("Ωμέγα Żółć Юникод", "株式会社", "\u202egnp.exe", "a" * 5_000):
        assert as_pdf(invoice(line(name))).startswith(b"%PDF")


def test_a_long_invoice_has_more_than_one_page():
    made = invoice(*(line(f"deployment-{number}") for number in range(120)))
    assert as_pdf(made).count(b"/Type /Page\n") > 1


def test_a_page_names_adjustments_and_the_rounding_rule():
    page = page_of(invoice())
    assert "adjustment, used in 2028-01" in page
    assert "rounded half up to a cent, once" in page
    assert zlib.crc32(page.encode()) == zlib.crc32(page_of(invoice()).encode())
