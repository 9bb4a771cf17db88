"""The JSON form of invoices."""

from __future__ import annotations

import json

from coordinator.core.invoice_content import content_of, invoice_of, summary_of
from tests.support.invoices import invoice


def test_the_json_form_is_read_back_whole():
    made = invoice()
    assert invoice_of(json.loads(json.dumps(content_of(made)))) == made


def test_scripts_get_exactly_these_keys_and_their_lines_sum_to_the_total():
    summary = summary_of([invoice(), invoice()])
    assert sorted(summary) == [
        *("completion_tokens", "lines", "prompt_tokens", "requests", "total_nano_usd")
    ]
    assert sum(one["nano_usd"] for one in summary["lines"]) == summary["total_nano_usd"]
    assert (summary["requests"], len(summary["lines"])) == (4_000, 4)


def test_nothing_used_is_zeros():
    assert summary_of([]) == {
        "lines": [],
        "requests": 0,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_nano_usd": 0,
    }
