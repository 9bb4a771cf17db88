"""The words of refusals over a limit."""

from __future__ import annotations

from agent.core.limit_refusals import money_refusal, rate_refusal, rate_state, sequences_refusal
from agent.core.money_leases import CostBound
from agent.core.quota_lease import Lease
from protos.domain.errors import InsufficientQuota, LinkDown, RateLimited
from protos.domain.quota import QuotaKind, QuotaName


def lease(kind: QuotaKind, limit: int) -> Lease:
    one = Lease(QuotaName(kind, "acme"), limit, 0.0)
    one.ends_mono_ms = 10_000.0
    return one


def test_a_rate_says_when_enough_is_there_again_and_what_is_owed_counts() -> None:
    tokens = lease(QuotaKind.TOKENS, 600)
    assert rate_refusal("key k1", tokens, 100, 0, ()).retry_after_s == 10.0
    assert rate_refusal("key k1", tokens, 100, -500, ()).retry_after_s == 60.0
    refused = rate_refusal("key k1", tokens, 100, 99, ())
    assert refused.retry_after_s == 1.0
    assert "key k1 may use 600 tokens a minute, and has 99 left" in refused.message


def test_a_state_says_when_all_of_it_is_there_again() -> None:
    state = rate_state(lease(QuotaKind.REQUESTS, 60), 30, 1_000)
    assert (state.reset_ms, state.reset_unix_ms) == (30_000.0, 31_000)


def test_more_sequences_than_the_limit_are_never_admitted_and_say_so() -> None:
    one = lease(QuotaKind.SEQUENCES, 8)
    never, later = sequences_refusal("account acme", one, 9), sequences_refusal("acme", one, 8)
    assert not never.retryable
    assert "this request is 9" in never.message
    assert later.retryable


def test_money_is_refused_with_both_amounts_and_the_max_tokens_that_fit() -> None:
    one = lease(QuotaKind.MONEY, 1_000)
    one.left = 1_000
    bound = CostBound(200, 10, 1, 500)
    refused = money_refusal("acme", one, bound, bound.nano_usd, 0.0, asks=True)
    assert isinstance(refused, InsufficientQuota)
    assert "0.000001000 USD left" in refused.message
    assert "up to 0.000005200 USD" in refused.message
    assert "max_tokens of at most 80" in refused.hint


def test_money_that_is_only_reserved_elsewhere_is_refused_for_a_moment() -> None:
    refused = money_refusal("acme", lease(QuotaKind.MONEY, 1_000), None, 900, 0.0, asks=True)
    assert isinstance(refused, RateLimited)
    assert refused.retry_after_s == 1.0


def test_an_unknown_balance_is_another_sites_request() -> None:
    refused = money_refusal("acme", lease(QuotaKind.MONEY, 1_000), None, 900, 10_000.0, asks=False)
    assert isinstance(refused, LinkDown)
