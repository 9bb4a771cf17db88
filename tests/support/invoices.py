"""Invoices for tests of their documents."""

from __future__ import annotations

import csv
import io

from coordinator.core import invoice_rules
from coordinator.core.invoice_rules import Invoice, MonthSums, Party, UsageLine
from coordinator.core.sla_credits import SlaCredit
from coordinator.core.tax import VatTable
from tests.support.billing import CENT, SELLER

HOSTILE = '=HYPERLINK("http://evil.example")<script>alert(1)</script>'


def line(deployment: str = "chat", nano_usd: int = 150 * CENT, month: str = "2028-02") -> UsageLine:
    """Return a line of 1,000 requests."""
    return UsageLine(
        *(month, deployment, "edge", "realtime", 3, 1_000, 2_000_000, 500_000, 100_000, nano_usd)
    )


def invoice(*lines: UsageLine, customer: Party | None = None) -> Invoice:
    """Return an invoice with everything on it: an adjustment, grants, an SLA credit, tax."""
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


def rows_of(text: str) -> list[dict[str, str]]:
    """Return the rows of a CSV."""
    return list(csv.DictReader(io.StringIO(text)))
