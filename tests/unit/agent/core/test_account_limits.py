"""What an account and a key may use a minute, and at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.account_limits import MAX_KEYS, AccountLimits, LeaseWanted, Use
from agent.core.money_leases import CostBound
from agent.core.quota_calls import QuotaCalls
from protos.domain.customers import Account, AccountState, ApiKey, UsageLimits
from protos.domain.errors import Forbidden, InsufficientQuota, LinkDown, RateLimited
from protos.domain.quota import LeaseAnswer, LeaseGrant, QuotaKind, QuotaName


class Caller:
    """One key of one account, with limits."""

    def __init__(self, of_account: UsageLimits, of_key: UsageLimits | None = None) -> None:
        self.limits = AccountLimits()
        self.account = Account("acme", of_account)
        self.key = ApiKey("k1", b"1" * 32, "acme", (), 0, of_key or UsageLimits())

    def begin(self, now_ms: float = 0.0, *, sequences: int = 1, tokens: float = 0.0) -> Use | None:
        return self.limits.begin(self.account, self.key, sequences, tokens, now_ms)

    def refused(
        self, now_ms: float = 0.0, *, sequences: int = 1, tokens: float = 0.0
    ) -> RateLimited:
        with pytest.raises(RateLimited) as refused:
            self.begin(now_ms, sequences=sequences, tokens=tokens)
        return refused.value


def test_without_limits_nothing_is_counted() -> None:
    caller = Caller(UsageLimits())
    assert caller.begin(sequences=1_000_000, tokens=1e9) is None
    assert len(caller.limits.calls) == 0


def test_requests_a_minute_are_refused_over_the_limit_with_the_time_until_the_next() -> None:
    caller = Caller(UsageLimits(requests_per_minute=60))
    for _ in range(60):
        assert caller.begin() is not None
    refused = caller.refused()
    assert (refused.http_status, refused.code) == (429, "rate_limit_exceeded")
    assert refused.retry_after_s == 1.0
    (state,) = refused.limited
    assert (state.kind, state.limit, state.remaining, state.reset_ms) == ("requests", 60, 0, 6e4)
    assert caller.begin(1_000.0) is not None, "one more a second"
    caller.refused(1_500.0)


def test_tokens_are_settled_by_what_was_used() -> None:
    caller = Caller(UsageLimits(tokens_per_minute=1_000))
    use = caller.begin(tokens=900.0)
    assert use is not None
    caller.refused(tokens=200.0)
    caller.limits.end(use, 100.0)
    assert caller.begin(tokens=200.0) is not None
    use = caller.begin(tokens=700.0)
    assert use is not None
    caller.limits.end(use, 5_000.0)
    refused = caller.refused(tokens=1.0)
    assert refused.retry_after_s is not None
    assert refused.retry_after_s > 250.0, "what was used beyond the estimate is owed"


def test_one_request_of_more_than_a_minutes_tokens_is_let_in_when_nothing_else_was_used() -> None:
    caller = Caller(UsageLimits(tokens_per_minute=1_000))
    assert caller.begin(tokens=50_000.0) is not None
    caller.refused(tokens=1.0)


def test_sequences_at_once_are_those_of_requests_that_have_not_ended() -> None:
    caller = Caller(UsageLimits(max_concurrent_sequences=8))
    use = caller.begin(sequences=6)
    assert use is not None
    caller.refused(sequences=3)
    assert caller.begin(sequences=2) is not None
    caller.limits.end(use, 10.0)
    assert caller.begin(sequences=6) is not None


def test_a_key_is_limited_within_its_account() -> None:
    caller = Caller(UsageLimits(requests_per_minute=10), UsageLimits(requests_per_minute=2))
    for _ in range(2):
        caller.begin()
    assert "key k1" in caller.refused().message
    caller.key = ApiKey("k2", b"2" * 32, "acme", (), 0)
    for _ in range(8):
        caller.begin()
    assert "account acme" in caller.refused().message


def test_a_refused_request_is_counted_nowhere() -> None:
    caller = Caller(UsageLimits(requests_per_minute=10), UsageLimits(max_concurrent_sequences=1))
    caller.begin()
    for _ in range(50):
        caller.refused()
    caller.key = ApiKey("k2", b"2" * 32, "acme", (), 0)
    for _ in range(9):
        caller.begin()


def test_an_operators_new_limit_holds_for_the_next_request() -> None:
    caller = Caller(UsageLimits(requests_per_minute=2))
    for _ in range(2):
        caller.begin()
    caller.refused()
    caller.account = Account("acme", UsageLimits(requests_per_minute=5))
    for _ in range(3):
        caller.begin()
    caller.refused()
    caller.account = Account("acme")
    assert caller.begin() is None


def test_memory_is_bounded_however_many_keys_are_used() -> None:
    limits = AccountLimits()
    for number in range(MAX_KEYS + 100):
        digest = number.to_bytes(32, "big")
        key = ApiKey(f"k{number}", digest, "acme", (), 0, UsageLimits(requests_per_minute=5))
        limits.begin(Account("acme"), key, 1, 0.0, float(number))
    assert len(limits._held) <= MAX_KEYS


def test_the_headers_say_the_limit_with_less_left_of_two() -> None:
    caller = Caller(
        UsageLimits(requests_per_minute=10, tokens_per_minute=100),
        UsageLimits(requests_per_minute=4),
    )
    use = caller.begin(tokens=25.0)
    assert use is not None
    requests, tokens = use.rates(0.0, 1_000)
    assert (requests.kind, requests.limit, requests.remaining) == ("requests", 4, 3)
    assert (requests.reset_ms, requests.reset_unix_ms) == (15_000.0, 16_000)
    assert (tokens.kind, tokens.limit, tokens.remaining) == ("tokens", 100, 75)


def test_a_suspended_account_is_refused_and_one_in_grace_is_not() -> None:
    limits = AccountLimits()
    with pytest.raises(Forbidden) as refused:
        limits.check_head(Account("acme", state=AccountState.SUSPENDED, funded=True), 0.0)
    assert (refused.value.http_status, refused.value.code) == (403, "account_suspended")
    limits.check_head(Account("acme", state=AccountState.GRACE), 0.0)
    limits.check_head(Account("acme"), 0.0)


def test_a_limited_account_may_spend_only_what_it_has_paid_before() -> None:
    limits = AccountLimits()
    with pytest.raises(InsufficientQuota) as refused:
        limits.check_head(Account("acme", state=AccountState.LIMITED), 0.0)
    assert (refused.value.http_status, refused.value.code) == (429, "insufficient_quota")
    assert not refused.value.retryable
    limits.check_head(Account("acme", state=AccountState.LIMITED, funded=True), 0.0)


class Linked(Caller):
    """A caller at an agent that asks a coordinator, which the test is."""

    def __init__(self, limits: UsageLimits | None = None, *, funded: bool = False) -> None:
        super().__init__(limits or UsageLimits())
        self.account = Account("acme", limits or UsageLimits(), funded=funded)
        self.limits = AccountLimits(QuotaCalls("boot"))
        self.limits.calls.linked = True

    def ask(self, now_ms: float = 0.0, *, may_wait: bool = True, cost: int = 0) -> Use | None:
        bound = CostBound(cost, 0, 1, 0) if self.account.funded else None
        return self.limits.begin(
            self.account, self.key, 1, 10.0, now_ms, bound=bound, may_wait=may_wait
        )

    def grant(
        self, kind: QuotaKind, granted: int, limit: int, left: int = 0, now_ms: float = 0.0
    ) -> None:
        call = self.limits.calls.call(now_ms)
        grant = LeaseGrant(QuotaName(kind, "acme"), granted, limit, left, 0)
        answer = LeaseAnswer(1, call.seq, 10_000.0, 3_000.0, 0.0, (grant,))
        self.limits.calls.answered(answer, now_ms)


def test_the_first_request_of_an_account_waits_until_the_coordinator_was_asked() -> None:
    caller = Linked(UsageLimits(requests_per_minute=60))
    with pytest.raises(LeaseWanted):
        caller.ask()
    caller.grant(QuotaKind.REQUESTS, 2, 60)
    assert caller.ask(may_wait=False) is not None
    assert caller.ask() is not None
    with pytest.raises(LeaseWanted):
        caller.ask()


def test_a_request_waits_once_and_is_refused_with_a_time_when_nothing_came() -> None:
    caller = Linked(UsageLimits(requests_per_minute=60))
    with pytest.raises(RateLimited) as refused:
        caller.ask(may_wait=False)
    assert refused.value.retry_after_s == 1.0


def test_what_the_coordinator_did_not_have_is_refused_at_once_for_a_second() -> None:
    caller = Linked(UsageLimits(requests_per_minute=60))
    with pytest.raises(LeaseWanted):
        caller.ask()
    caller.grant(QuotaKind.REQUESTS, 0, 60)
    with pytest.raises(RateLimited):
        caller.ask(500.0)
    with pytest.raises(LeaseWanted):
        caller.ask(1_500.0)


def test_money_is_reserved_by_its_bound_and_settled_by_the_real_cost() -> None:
    caller = Linked(funded=True)
    with pytest.raises(LeaseWanted):
        caller.ask(cost=400)
    caller.grant(QuotaKind.MONEY, 1_000, 5_000)
    first, second = caller.ask(cost=400), caller.ask(cost=400)
    assert first is not None
    assert second is not None
    with pytest.raises(LeaseWanted):
        caller.ask(cost=400)
    first.record = 0
    caller.limits.end(first, 10.0, 100)
    assert caller.ask(cost=400) is not None, "300 of 400 came back"
    caller.limits.unsettled.counted(0)
    (lease,) = [lease for lease, _ in first.leases]
    assert (lease.granted, lease.in_use) == (900, 800), "what is counted is no longer held"


def test_a_request_over_what_remains_is_refused_with_the_max_tokens_that_fit() -> None:
    caller = Linked(funded=True)
    bound = CostBound(100, 10, 2, 1_000)
    with pytest.raises(LeaseWanted):
        caller.limits.begin(caller.account, caller.key, 2, 0.0, 0.0, bound=bound, may_wait=True)
    caller.grant(QuotaKind.MONEY, 0, 4_100, left=4_100)
    with pytest.raises(InsufficientQuota) as refused:
        caller.limits.begin(caller.account, caller.key, 2, 0.0, 0.0, bound=bound)
    assert "0.000020100" in refused.value.message
    assert "0.000004100" in refused.value.message
    assert "max_tokens of at most 200" in refused.value.hint


def test_money_that_running_requests_may_use_up_is_refused_for_a_moment_only() -> None:
    caller = Linked(funded=True)
    with pytest.raises(LeaseWanted):
        caller.ask(cost=400)
    caller.grant(QuotaKind.MONEY, 0, 500)
    with pytest.raises(RateLimited):
        caller.ask(cost=400)


def test_nothing_left_is_refused_from_the_head_until_the_lease_ends() -> None:
    caller = Linked(funded=True)
    with pytest.raises(LeaseWanted):
        caller.ask(cost=400)
    caller.grant(QuotaKind.MONEY, 0, 0)
    with pytest.raises(InsufficientQuota):
        caller.limits.check_head(caller.account, 100.0)
    caller.limits.check_head(caller.account, 10_001.0)


def test_what_is_refused_from_the_head_is_asked_for_once_a_second() -> None:
    caller = Linked(funded=True)
    with pytest.raises(LeaseWanted):
        caller.ask(cost=400)
    caller.grant(QuotaKind.MONEY, 0, 0)

    def next_call_ms(now_ms: float) -> float:
        with pytest.raises(InsufficientQuota):
            caller.limits.check_head(caller.account, now_ms)
        return caller.limits.calls.next_call_mono_ms()

    assert next_call_ms(999.0) == 3_000.0, "the next renewal"
    assert next_call_ms(1_000.0) <= 1_000.0
    caller.grant(QuotaKind.MONEY, 0, 0, now_ms=1_000.0)
    assert next_call_ms(1_999.0) == 4_000.0
    assert next_call_ms(2_000.0) <= 2_000.0
    caller.grant(QuotaKind.MONEY, 0, 9_000, now_ms=2_000.0, left=9_000)
    caller.limits.check_head(caller.account, 2_001.0)


def test_a_balance_that_nobody_can_tell_is_503_for_another_site() -> None:
    caller = Linked(funded=True)
    for _ in range(2):
        caller.limits.calls.failed()
    with pytest.raises(LinkDown):
        caller.ask(cost=1)


def test_without_contact_an_even_share_of_the_limit_is_used() -> None:
    caller = Linked(UsageLimits(requests_per_minute=60))
    caller.limits.nodes = 20
    for _ in range(2):
        caller.limits.calls.failed()
    for _ in range(3):
        assert caller.ask() is not None
    with pytest.raises(RateLimited):
        caller.ask()


@given(
    st.integers(1, 100),
    st.lists(st.tuples(st.floats(0, 5_000), st.booleans()), min_size=1, max_size=200),
)
def test_never_more_than_twice_the_limit_within_any_minute(
    limit: int, steps: list[tuple[float, bool]]
) -> None:
    caller, now_ms, let_in = Caller(UsageLimits(requests_per_minute=limit)), 0.0, []
    for pause_ms, _ in steps:
        now_ms += pause_ms
        try:
            caller.begin(now_ms)
        except RateLimited:
            continue
        let_in.append(now_ms)
    for since_ms in let_in:
        assert sum(since_ms <= at_ms < since_ms + 60_000.0 for at_ms in let_in) <= 2 * limit
