"""Postings: each sums to zero, and what cannot is refused."""

from __future__ import annotations

import pytest

from coordinator.core import ledger
from coordinator.core.ledger import Entry, Invoiced, Posting
from protos.domain.errors import InvalidRequest


def test_usage_without_credits_waits_for_its_invoice():
    made = ledger.of_usage("acme", "2026-02", 1, 700)
    assert ledger.balances([made]) == {"unbilled/acme": 700, "revenue/usage": -700}


def test_usage_takes_credits_first():
    made = ledger.of_usage(
        "acme", "2026-02", 1, 700, from_grants_nano_usd=200, from_prepaid_nano_usd=500
    )
    assert ledger.balances([made]) == {
        "grants/acme": 200,
        "prepaid/acme": 500,
        "revenue/usage": -700,
    }


def test_an_invoice_puts_the_parts_of_cents_into_rounding():
    amounts = Invoiced(
        unbilled_nano_usd=123_456_789,
        due_nano_usd=120_000_000,
        tax_nano_usd=20_000_000,
        sla_nano_usd=20_000_000,
    )
    made = ledger.of_invoice("acme", "2026-02", 1, amounts, "EF-2026-000001")
    assert ledger.balances([made])["rounding"] == 3_456_789
    assert ledger.balances([made])["receivable/acme"] == 120_000_000


def test_an_unbalanced_transaction_is_refused():
    with pytest.raises(InvalidRequest, match="off by 1"):
        ledger.posting("grant", "acme", "2026-02", 1, (("a", 5), ("b", -4)))


def test_an_impossible_amount_is_refused():
    entries = (Entry("a", ledger.MAX_NANO_USD + 1), Entry("b", -ledger.MAX_NANO_USD - 1))
    with pytest.raises(InvalidRequest, match="impossibly large"):
        ledger.check(Posting("grant", "acme", "2026-02", 1, entries))
