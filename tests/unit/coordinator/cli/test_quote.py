"""Budgets as people write them, and answers as scripts read them."""

from __future__ import annotations

import pytest

from coordinator.cli.quote import _budgets_ms, _json, _row
from protos.domain.errors import InvalidRequest
from protos.v1 import prices_pb2


@pytest.mark.parametrize(
    ("text", "budgets_ms"),
    [
        ("", []),
        ("80ms", [80]),
        ("80,150,300ms", [80, 150, 300]),
        ("80, 150 , 1s", [80_000, 150_000, 1_000]),
        ("80ms,1.5s", [80, 1_500]),
        ("80,150", [80, 150]),
    ],
)
def test_a_unit_counts_for_those_before_it_without_one(text, budgets_ms):
    assert _budgets_ms(text) == budgets_ms


@pytest.mark.parametrize("text", ["soon", "80,,90", "0", "-5ms", "80mm"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(InvalidRequest, match="is no duration"):
        _budgets_ms(text)


def test_a_share_of_no_stream_is_not_shown_as_nothing_kept():
    line = prices_pb2.QuoteLine(budget_ms=80, requests=2, total_nano_usd=9, median_nano_usd=4)
    assert _row(line)[3] == "no stream"
    (shown,) = _json(prices_pb2.QuoteResponse(lines=[line]))["lines"]
    assert (shown["kept_ratio"], shown["total_nano_usd"]) == (None, 9)
    empty = prices_pb2.QuoteLine(budget_ms=80, refused=3)
    assert _row(empty) == ("80 ms", "-", "-", "-", "-", "3 refused", "-")
