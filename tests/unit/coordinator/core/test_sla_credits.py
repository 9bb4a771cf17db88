"""Credits for missed promises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.sla_credits import PromiseSums, SlaCredit, credits_of, is_kept
from protos.domain.resources import CardTerms

CARDS = {1: CardTerms(1), 2: CardTerms(2, promise_percent=99, credit_percent=25)}


def sums(*, streams: int, in_time: int, nano_usd: int, card: int = 1) -> PromiseSums:
    return PromiseSums("acme", "realtime", card, streams, in_time, nano_usd)


def test_a_missed_promise_is_credited_and_a_kept_one_is_shown_with_nothing_owed() -> None:
    missed = credits_of([sums(streams=100, in_time=94, nano_usd=1_000)], CARDS.get)
    assert missed == [SlaCredit("acme", "realtime", 100, 94, 95, 1_000, 100)]
    (kept,) = credits_of([sums(streams=100, in_time=95, nano_usd=1_000)], CARDS.get)
    assert kept.nano_usd == 0


def test_a_month_without_a_stream_owes_nothing() -> None:
    (line,) = credits_of([sums(streams=0, in_time=0, nano_usd=1_000)], CARDS.get)
    assert line.nano_usd == 0


def test_a_card_that_changes_in_the_month_credits_each_part_by_its_own_percents() -> None:
    month = [
        sums(streams=100, in_time=90, nano_usd=1_000, card=1),
        sums(streams=100, in_time=100, nano_usd=1_000, card=2),
    ]
    (line,) = credits_of(month, CARDS.get)  # 95 % of 200: card 1 promised that, card 2 more
    assert (line.streams, line.promise_percent, line.nano_usd) == (200, 99, 250)


def test_accounts_and_tiers_are_judged_apart() -> None:
    month = [
        PromiseSums("acme", "realtime", 1, 10, 0, 500),
        PromiseSums("acme", "standard", 1, 10, 10, 500),
        PromiseSums("blue", "realtime", 1, 10, 10, 500),
    ]
    assert [(one.account, one.sla_tier, one.nano_usd) for one in credits_of(month, CARDS.get)] == [
        ("acme", "realtime", 50),
        ("acme", "standard", 0),
        ("blue", "realtime", 0),
    ]


def test_an_unknown_card_promises_nothing() -> None:
    (line,) = credits_of([sums(streams=10, in_time=0, nano_usd=500, card=9)], CARDS.get)
    assert line.nano_usd == 0


@pytest.mark.parametrize(("nano_usd", "owed"), [(4, 0), (5, 1), (14, 1), (15, 2)])
def test_a_credit_is_rounded_half_up(nano_usd: int, owed: int) -> None:
    (line,) = credits_of([sums(streams=1, in_time=0, nano_usd=nano_usd)], CARDS.get)
    assert line.nano_usd == owed


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**18))
def test_no_credit_is_more_than_what_was_charged(one: int, other: int, nano_usd: int) -> None:
    streams, in_time = max(one, other), min(one, other)
    (line,) = credits_of([sums(streams=streams, in_time=in_time, nano_usd=nano_usd)], CARDS.get)
    assert 0 <= line.nano_usd <= nano_usd
    assert is_kept(streams, in_time, 95) == (line.nano_usd == 0) or nano_usd < 5
