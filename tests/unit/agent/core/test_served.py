"""The serving node's own count: nothing is lost from its sums, and its memory is bounded."""

from __future__ import annotations

from agent.core.served import (
    LOG_EVERY_MS,
    MAX_MINUTES,
    MAX_TOLD_MINUTES,
    ServedLedger,
    ServedRecord,
    Totals,
)
from protos.domain.pricing import Usage


def record(account: str = "acme", node: str = "far", trace_id: str = "t") -> ServedRecord:
    return ServedRecord(
        trace_id, node, account, "small", "acme/small@1", "/v1/chat/completions", 200, True, 0, 1.0,
        10, 4, 20,
    )  # fmt: skip


USAGE = Usage(10, 4, 20)


def test_what_was_served_is_counted_by_account_and_asking_node() -> None:
    ledger = ServedLedger()
    ledger.served(record(), USAGE)
    ledger.served(record(), USAGE)
    ledger.served(record(node="last"), Usage(1, 0, 0))
    assert ledger.of("acme", "far") == Totals(2, 20, 8, 40)
    assert ledger.of("acme", "last") == Totals(1, 1, 0, 0)
    assert ledger.of("other", "far") == Totals()
    assert ledger.total == Totals(3, 21, 8, 40)


def test_over_its_limit_the_least_recent_pair_is_kept_in_the_sum_of_dropped_ones() -> None:
    ledger = ServedLedger(max_pairs=2)
    for account in ("a", "b", "a", "c", "d"):
        ledger.served(record(account), USAGE)
    told = ledger.as_json(0)
    assert [(one["account"], one["requests"]) for one in told["accounts"]] == [("c", 1), ("d", 1)]
    assert ledger.dropped == Totals(3, 30, 12, 60)
    assert ledger.total == Totals(5, 50, 20, 100)


def test_single_requests_are_remembered_newest_first_up_to_a_limit() -> None:
    ledger = ServedLedger(max_records=3)
    for number in range(5):
        ledger.served(record(trace_id=str(number)), USAGE)
    assert [one["trace_id"] for one in ledger.as_json(10)["requests"]] == ["4", "3", "2"]
    assert [one["trace_id"] for one in ledger.as_json(1)["requests"]] == ["4"]
    assert ledger.as_json(0)["requests"] == []


def test_a_node_with_invalid_requests_is_flagged_and_logged_once_a_minute() -> None:
    ledger = ServedLedger(max_flagged=2)
    assert ledger.flag("far", "n is 5000", 0.0)
    assert not ledger.flag("far", "priority", LOG_EVERY_MS - 1.0)
    assert ledger.flag("far", "store", LOG_EVERY_MS)
    assert ledger.status(0.0) == {"flagged_peers": {"far": {"count": 3, "last_reason": "store"}}}
    for name in ("b", "c"):
        ledger.flag(name, "x", 0.0)
    assert set(ledger.status(0.0)["flagged_peers"]) == {"b", "c"}


def test_metrics_are_sums_without_the_names_of_accounts() -> None:
    ledger = ServedLedger()
    ledger.served(record(), USAGE)
    samples = {one.name: (one.value, one.labels) for one in ledger.samples(0.0)}
    assert samples == {
        "edgeforge_peer_served_requests": (1.0, ()),
        "edgeforge_peer_served_prompt_tokens": (10.0, ()),
        "edgeforge_peer_served_cached_tokens": (4.0, ()),
        "edgeforge_peer_served_completion_tokens": (20.0, ()),
    }


def test_sums_by_minute_are_those_of_the_requests_that_began_in_it() -> None:
    ledger = ServedLedger()
    for began_unix_ms in (59_999, 60_000, 119_999):
        one = record()
        one.began_unix_ms = began_unix_ms
        ledger.served(one, USAGE)
    told = ledger.as_json(0)["minutes"]
    assert [(one["minute_unix_ms"], one["requests"]) for one in told] == [(60_000, 2), (0, 1)]
    assert {(one["asking_node"], one["account"], one["deployment"]) for one in told} == {
        ("far", "acme", "small")
    }


def test_the_oldest_minutes_are_dropped_and_stay_in_the_total() -> None:
    ledger = ServedLedger()
    for minute in range(MAX_MINUTES + 5):
        one = record()
        one.began_unix_ms = minute * 60_000
        ledger.served(one, Usage(1, 0, 0))
    told = ledger.as_json(0)["minutes"]
    assert len(told) == MAX_TOLD_MINUTES
    assert told[0]["minute_unix_ms"] == (MAX_MINUTES + 4) * 60_000
    assert ledger.total.requests == MAX_MINUTES + 5
