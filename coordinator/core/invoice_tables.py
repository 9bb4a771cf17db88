"""Invoices as CSV: their own columns, and FOCUS. Hostile names stay text in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from coordinator.core import focus
from coordinator.core.focus import decimal

if TYPE_CHECKING:
    from coordinator.core.invoice_rules import Invoice

COLUMNS = (
    *("invoice", "account", "month", "kind", "description", "usage_month", "deployment"),
    *("tier_billed", "sla_tier", "card_version", "requests", "prompt_tokens", "cached_tokens"),
    *("completion_tokens", "nano_usd", "amount_usd"),
)
#: A cell that begins with one of these is a formula to a spreadsheet.
#: Source: OWASP, "CSV Injection".
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def as_csv(invoices: Iterable[Invoice]) -> str:
    """Return the lines, deductions, taxes and payments; amounts sum to what is due."""
    return _written(COLUMNS, [row for one in invoices for row in _rows(one)])


def _rows(invoice: Invoice) -> list[dict[str, object]]:
    base = {"invoice": invoice.number, "account": invoice.account, "month": invoice.month}
    rows: list[dict[str, object]] = []
    for line in invoice.lines:
        kind = "usage" if line.month == invoice.month else "adjustment"
        rows.append(
            {
                **base,
                **asdict(line),
                "month": invoice.month,
                "usage_month": line.month,
                "kind": kind,
                "amount_usd": decimal(line.cents),
            }
        )
    for kind, text, cents in other_amounts(invoice):
        rows.append({**base, "kind": kind, "description": text, "amount_usd": decimal(cents)})
    return rows


def as_focus(invoices: Iterable[Invoice]) -> str:
    """Return FOCUS rows of invoices."""
    return _written(focus.COLUMNS, [row for one in invoices for row in focus.rows_of(one)])


def other_amounts(invoice: Invoice) -> list[tuple[str, str, int]]:
    """Return kind, text and cents of everything that is no line."""
    found = [(one.kind, one.description, -one.cents) for one in invoice.deductions]
    found += [("tax", one.description, one.cents) for one in invoice.taxes]
    if invoice.prepaid_cents:
        found.append(("prepaid", "Paid from the prepaid balance", -invoice.prepaid_cents))
    if invoice.of_invoice:
        text = f"Credit for invoice {invoice.of_invoice}: {invoice.reason}"
        found.append(("credit_note", text, invoice.total_cents))
    return found


def plain_cell(value: object) -> str:
    """Return a cell that no spreadsheet takes for a formula; numbers stay numbers."""
    text = str(value)
    if not text.startswith(_FORMULA_STARTS) or _is_number(text):
        return text
    return "'" + text


def _is_number(text: str) -> bool:
    digits = text.removeprefix("-").replace(".", "", 1)
    return text.isascii() and digits.isdigit()


def _written(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    output = io.StringIO()
    writer = csv.DictWriter(
        output, columns, extrasaction="ignore", restval="", lineterminator="\r\n"
    )
    writer.writeheader()
    for row in rows:
        writer.writerow({name: plain_cell(value) for name, value in row.items()})
    return output.getvalue()
