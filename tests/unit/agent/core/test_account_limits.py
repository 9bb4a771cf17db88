"""What an account and a key may use a minute, and at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.account_limits import AccountLimits, Use
from protos.domain.customers import Account, ApiKey, UsageLimits
from protos.domain.errors import RateLimited


class Caller:
    """One key of one account, with limits."""

    def __init__(self, of_account: UsageLimits, of_key: UsageLimits | None = None) -> None:
        self.limits = AccountLimits()
        self.account = Account("acme", of_account)
        self.key = ApiKey("k1", b"", "acme", (), 0, of_key or UsageLimits())

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
    assert len(caller.limits) == 0


def test_requests_a_minute_are_refused_over_the_limit_with_the_time_until_the_next() -> None:
    caller = Caller(UsageLimits(requests_per_minute=60))
    for _ in range(60):
        assert caller.begin() is not None
    refused = caller.refused()
    assert (refused.http_status, refused.code) == (429, "rate_limit_exceeded")
    assert refused.retry_after_s == 1.0
    assert refused.limited == ("requests", 60, 0)
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
    caller.key = ApiKey("k2", b"", "acme", (), 0)
    for _ in range(8):
        caller.begin()
    assert "account acme" in caller.refused().message


def test_a_refused_request_is_counted_nowhere() -> None:
    caller = Caller(UsageLimits(requests_per_minute=10), UsageLimits(max_concurrent_sequences=1))
    caller.begin()
    for _ in range(50):
        caller.refused()
    caller.key = ApiKey("k2", b"", "acme", (), 0)
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
    limits = AccountLimits(50)
    for number in range(1_000):
        key = ApiKey(f"k{number}", b"", "acme", (), 0, UsageLimits(requests_per_minute=5))
        limits.begin(Account("acme"), key, 1, 0.0, float(number))
    assert len(limits) <= 50


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
