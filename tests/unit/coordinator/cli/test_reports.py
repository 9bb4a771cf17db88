"""Amounts as people write them."""

from __future__ import annotations

import pytest

from coordinator.cli.reports import _nano_usd
from protos.domain.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "nano_usd"),
    [
        ("12.50", 12_500_000_000),
        ("$3", 3 * 10**9),
        ("0.000000001", 1),
        ("0", 0),
        (" 7 ", 7 * 10**9),
    ],
)
def test_an_amount_is_exact_to_the_nano(text, nano_usd):
    assert _nano_usd(text) == nano_usd


@pytest.mark.parametrize("text", ["twelve", "-1", "1e-10", "nan", "inf", "1e99", "", "1,5", "1 2"])
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(InvalidRequest, match="is no amount of dollars"):
        _nano_usd(text)
