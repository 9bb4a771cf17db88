"""When an agent asks for quota, and what it does with answers."""

from __future__ import annotations

import math

from agent.core.quota_calls import MAX_LEASES, URGENT_GAP_MS, QuotaCalls
from agent.core.quota_lease import IDLE_MS, Lease
from protos.domain.quota import (
    MAX_ASKS,
    RENEW_MS,
    LeaseAnswer,
    LeaseCall,
    LeaseGrant,
    QuotaKind,
    QuotaName,
)


def linked() -> QuotaCalls:
    calls = QuotaCalls("boot")
    calls.linked = True
    return calls


def name(account: str = "acme") -> QuotaName:
    return QuotaName(QuotaKind.SEQUENCES, account)


def answer(call: LeaseCall, granted: int, **changes: object) -> LeaseAnswer:
    grants = tuple(LeaseGrant(ask.name, granted, 100, 0, 0) for ask in call.asks)
    fields = {"settling_ms": 0.0, "seq": call.seq} | changes
    return LeaseAnswer(
        epoch=1,
        lease_ms=10_000.0,
        renew_ms=RENEW_MS,
        grants=grants,
        **fields,  # type: ignore[arg-type]
    )


def held(calls: QuotaCalls, account: str = "acme", now_ms: float = 0.0) -> Lease:
    lease = calls.lease(name(account), 100, now_ms)
    calls.answered(answer(calls.call(now_ms), 10), now_ms)
    return lease


def test_nothing_held_is_nothing_to_call_for() -> None:
    assert linked().next_call_mono_ms() == math.inf


def test_without_a_link_nothing_is_asked_for() -> None:
    calls = QuotaCalls()
    calls.need(calls.lease(name(), 100, 0.0), urgent=True)
    assert not calls.can_ask
    assert not calls._soon


def test_a_request_that_waits_is_asked_for_at_once_and_wakes_the_link() -> None:
    calls, woken = linked(), []
    lease = held(calls)
    calls.wake = lambda: woken.append(1)
    assert calls.next_call_mono_ms() == RENEW_MS
    calls.need(lease, urgent=True)
    calls.need(lease, urgent=True)
    assert calls.next_call_mono_ms() == URGENT_GAP_MS
    assert len(woken) == 1


def test_what_runs_low_is_asked_for_within_a_moment() -> None:
    calls = linked()
    calls.need(held(calls), urgent=False)
    assert calls.next_call_mono_ms() == 200.0


def test_leases_that_are_due_soon_go_with_one_call() -> None:
    calls = linked()
    for number in range(5):
        held(calls, f"a{number}", number * 100.0)
    assert calls.next_call_mono_ms() == RENEW_MS
    assert len(calls.call(RENEW_MS).asks) == 5


def test_a_call_has_so_many_asks_and_the_rest_follows() -> None:
    calls = linked()
    for number in range(MAX_ASKS + 10):
        calls.lease(name(f"a{number}"), 100, 0.0)
    first = calls.call(0.0)
    calls.answered(answer(first, 1), 0.0)
    assert len(first.asks) == MAX_ASKS
    second = calls.call(300.0)
    assert len(second.asks) == 10
    assert not {ask.name for ask in first.asks} & {ask.name for ask in second.asks}


def test_an_answer_to_an_earlier_call_is_ignored() -> None:
    calls = linked()
    lease = calls.lease(name(), 100, 0.0)
    first = calls.call(0.0)
    calls.failed()
    calls.call(100.0)
    calls.answered(answer(first, 50), 200.0)
    assert lease.granted == 0


def test_a_lease_ends_counted_from_before_its_call() -> None:
    calls = linked()
    lease = calls.lease(name(), 100, 0.0)
    call = calls.call(1_000.0)
    calls.answered(answer(call, 50), 3_000.0)
    assert lease.ends_mono_ms == 11_000.0


def test_one_failed_call_is_no_cut_and_two_are() -> None:
    calls = linked()
    held(calls)
    calls.failed()
    assert calls.can_ask
    calls.failed()
    assert not calls.can_ask
    calls.answered(answer(calls.call(100.0), 1), 100.0)
    assert calls.can_ask


def test_a_lowered_grant_is_confirmed_soon_so_that_others_get_it() -> None:
    calls = linked()
    held(calls)
    call = calls.call(RENEW_MS)
    calls.answered(answer(call, 4), RENEW_MS)
    assert calls.next_call_mono_ms() == RENEW_MS + 200.0


def test_what_is_idle_is_given_back_and_forgotten() -> None:
    calls = linked()
    lease = held(calls)
    call = calls.call(IDLE_MS)
    assert call.asks[0].want == 0
    calls.answered(answer(call, 0), IDLE_MS)
    assert len(calls) == 0
    assert not calls.knows(lease)
    assert calls.known(name()) is None


def test_what_exists_no_longer_is_forgotten_unless_it_is_in_use() -> None:
    calls = linked()
    lease = held(calls)
    lease.take(1)
    gone = LeaseAnswer(1, 2, 10_000.0, RENEW_MS, 0.0, ())
    calls.call(RENEW_MS)
    calls.answered(gone, RENEW_MS)
    assert calls.knows(lease)
    lease.release(1)
    calls.call(2 * RENEW_MS)
    calls.answered(LeaseAnswer(1, 3, 10_000.0, RENEW_MS, 0.0, ()), 2 * RENEW_MS)
    assert not calls.knows(lease)


def test_a_coordinator_that_has_restarted_is_asked_again_soon() -> None:
    calls = linked()
    lease = calls.lease(name(), 100, 0.0)
    lease.wait(5)
    call = calls.call(0.0)
    calls.answered(answer(call, 0, settling_ms=300.0), 0.0)
    assert lease.refused_until_mono_ms == 300.0


def test_memory_is_bounded_however_many_accounts_are_limited() -> None:
    calls = QuotaCalls()
    for number in range(MAX_LEASES + 50):
        calls.lease(name(f"a{number}"), 1, 0.0)
    assert len(calls) <= MAX_LEASES
