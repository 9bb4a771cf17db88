"""One lease of an agent: what is asked for, what is set, and what is used without contact."""

from __future__ import annotations

from agent.core.quota_lease import IDLE_MS, RETRY_MS, Lease
from protos.domain.quota import LeaseGrant, QuotaKind, QuotaName


def lease(kind: QuotaKind, limit: int = 100) -> Lease:
    return Lease(QuotaName(kind, "acme"), limit, 0.0)


def granted(one: Lease, amount: int, *, cut_off: int = 0, now_ms: float = 0.0) -> None:
    ask = one.ask(now_ms)
    one.set(LeaseGrant(one.name, amount, one.limit, 7, cut_off), ask, now_ms + 10_000.0)


def test_a_grant_is_set_less_what_was_used_up_since_its_ask() -> None:
    one = lease(QuotaKind.REQUESTS)
    granted(one, 10)
    ask = one.ask(100.0)
    assert ask.held == 10
    one.take(3)
    one.set(LeaseGrant(one.name, 20, 100, 0, 0), ask, 10_100.0)
    assert one.granted == 17


def test_sequences_in_use_stay_a_part_of_what_is_granted() -> None:
    one = lease(QuotaKind.SEQUENCES)
    granted(one, 10)
    one.take(4)
    assert (one.granted, one.in_use) == (10, 4)
    ask = one.ask(100.0)
    assert (ask.held, ask.in_use) == (10, 4)
    one.release(4)
    assert one.in_use == 0


def test_all_that_wait_are_asked_for_and_the_least_of_them() -> None:
    one = lease(QuotaKind.MONEY)
    granted(one, 50)
    one.take(50)
    one.wait(300)
    one.wait(200)
    assert one.is_waited_for
    ask = one.ask(1_000.0)
    assert (ask.least, ask.need) == (250, 550)
    assert ask.want >= 550
    assert not one.is_waited_for


def test_what_is_used_a_second_is_asked_for_ahead() -> None:
    one = lease(QuotaKind.TOKENS, 100_000)
    granted(one, 50_000)
    one.take(1_000)
    assert one.ask(1_000.0).want == 2_000, "half of the new rate of 1,000 a second, for 4 s"


def test_after_its_end_nothing_is_held_but_what_is_in_use_and_what_is_owed() -> None:
    money, rate = lease(QuotaKind.MONEY), lease(QuotaKind.TOKENS)
    granted(money, 50)
    money.take(20)
    assert money.ask(10_000.0).held == 20
    granted(rate, 50)
    assert rate.ask(10_000.0).held == 0
    rate.take(80)
    assert rate.ask(20_000.0).held == -30


def test_a_lease_that_is_not_used_is_given_back() -> None:
    one = lease(QuotaKind.SEQUENCES)
    granted(one, 10, cut_off=5)
    ask = one.ask(IDLE_MS)
    assert (ask.held, ask.want, ask.cut_off) == (0, 0, 0)
    assert one.granted == 0


def test_what_could_not_be_granted_is_refused_for_a_second() -> None:
    one = lease(QuotaKind.SEQUENCES)
    one.wait(5)
    ask = one.ask(100.0)
    one.set(LeaseGrant(one.name, 4, 100, 0, 0), ask, 10_100.0)
    assert one.refused_until_mono_ms == 100.0 + RETRY_MS
    one.wait(5)
    ask = one.ask(200.0)
    one.set(LeaseGrant(one.name, 5, 100, 0, 0), ask, 10_200.0)
    assert one.refused_until_mono_ms == 0.0


def test_cut_off_money_is_used_once() -> None:
    one = lease(QuotaKind.MONEY)
    granted(one, 500, cut_off=60)
    one.take(100)
    assert one.room_cut_off(5, 10_000.0) == 60
    one.take_cut_off(50)
    assert one.room_cut_off(5, 11_000.0) == 10
    one.release(150)
    one.in_use += 150  # the records of both are not counted yet
    assert one.room_cut_off(5, 500_000.0) == 10


def test_cut_off_rates_keep_the_last_share_or_an_even_one() -> None:
    one = lease(QuotaKind.REQUESTS)
    assert one.room_cut_off(5, 0.0) == 20, "no contact since the start"
    granted(one, 10, cut_off=70)
    assert one.room_cut_off(5, 10_000.0) == 70
    one.take_cut_off(70)
    assert one.room_cut_off(5, 10_000.0) == 0
    assert one.room_cut_off(5, 70_000.0) == 70
    sequences = lease(QuotaKind.SEQUENCES)
    granted(sequences, 10, cut_off=8)
    sequences.take(8)
    assert sequences.room_cut_off(100, 10_000.0) == 0


def test_tokens_that_were_not_used_come_back_where_they_were_taken() -> None:
    one = lease(QuotaKind.TOKENS)
    granted(one, 50)
    one.take(40)
    one.correct(-30)
    assert one.granted == 40
    assert one.room_cut_off(1, 10_000.0) == 100
    one.take_cut_off(100)
    one.correct(-60)
    assert one.room_cut_off(1, 10_000.0) == 60
