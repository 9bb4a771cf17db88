"""Amounts as people write them."""

from __future__ import annotations

import pytest

from coordinator.cli import money
from protos.domain.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "nano_usd"),
    [
        ("12.50", 12_500_000_000),
        ("$3", 3 * 10**9),
        ("0.000000001", 1),
        ("0", 0),
        (" 7 ", 7 * 10**9),
        ("1,234.50", 1_234_500_000_000),
        ("1_000", 10**12),
    ],
)
def test_an_amount_is_exact_to_the_nano(text, nano_usd):
    assert money.nano_usd(text, "--usd") == nano_usd


@pytest.mark.parametrize(
    "text",
    [
        "twelve",
        "-1",
        "1e-10",
        "nan",
        "inf",
        "1e99",
        "1e999999999",
        "",
        "1,5",
        "1,50",
        "1 2",
        "12.",
        "٣",
    ],
)
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(InvalidRequest, match="is no amount of dollars"):
        money.nano_usd(text, "--usd")
