"""An invoice as a JSON document: the form that is stored, and what scripts read of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from coordinator.core.invoice_rules import Deduction, Invoice, Party, UsageLine, sums_of
from coordinator.core.tax import TaxLine


def content_of(invoice: Invoice) -> dict[str, Any]:
    """Return the whole of an invoice; ``invoice_of`` reads it."""
    content = asdict(invoice)
    content["lines"] = [_line(line) for line in invoice.lines]
    content["total_nano_usd"] = invoice.total_nano_usd
    return content


def invoice_of(content: Mapping[str, Any]) -> Invoice:
    """Return the invoice of a document that ``content_of`` made."""
    line_names = UsageLine.__dataclass_fields__
    fields = {name: content[name] for name in Invoice.__dataclass_fields__ if name in content}
    return Invoice(
        **{
            **fields,
            "seller": Party(**content["seller"]),
            "customer": Party(**content["customer"]),
            "lines": tuple(
                UsageLine(**{name: line[name] for name in line_names}) for line in content["lines"]
            ),
            "deductions": tuple(Deduction(**one) for one in content["deductions"]),
            "taxes": tuple(TaxLine(**one) for one in content["taxes"]),
        }
    )


def summary_of(invoices: Iterable[Invoice]) -> dict[str, Any]:
    """Return what scripts read: lines, requests, tokens and the exact sum of the lines."""
    made = list(invoices)
    sums = sums_of(line for one in made for line in one.lines)
    return {
        "lines": [{"account": one.account, **_line(line)} for one in made for line in one.lines],
        "requests": sums.requests,
        "prompt_tokens": sums.prompt_tokens,
        "completion_tokens": sums.completion_tokens,
        "total_nano_usd": sums.total_nano_usd,
    }


def _line(line: UsageLine) -> dict[str, Any]:
    return {
        **asdict(line),
        "nano_usd_per_million_tokens": line.nano_usd_per_million_tokens,
        "cents": line.cents,
    }
