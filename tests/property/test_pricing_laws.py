"""Money: the parts sum to the whole, in integers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protos.domain.pricing import (
    MAX_TOKENS,
    SIZE_CLASSES,
    Usage,
    cost_of,
    format_usd,
    size_class_of,
)
from protos.domain.resources import Price, Tier

rates = st.integers(0, 1_000_000)
prices = st.builds(Price, st.just("xs"), st.just(Tier.EDGE), rates, rates, rates, st.just(1))


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    prompt_tokens = draw(st.integers(0, MAX_TOKENS // 2))
    cached_tokens = draw(st.integers(0, prompt_tokens))
    return Usage(prompt_tokens, cached_tokens, draw(st.integers(0, MAX_TOKENS // 2)))


@given(usages(), prices)
def test_parts_sum_to_the_whole(usage, price):
    cost = cost_of(usage, price)
    parts = (cost.prompt_nano_usd, cost.cached_nano_usd, cost.completion_nano_usd)
    assert all(type(part) is int and part >= 0 for part in parts)
    assert cost.total_nano_usd == sum(parts)


@given(usages(), usages(), prices)
def test_two_requests_cost_what_both_cost(a, b, price):
    both = Usage(
        a.prompt_tokens + b.prompt_tokens,
        a.cached_tokens + b.cached_tokens,
        a.completion_tokens + b.completion_tokens,
    )
    separate = cost_of(a, price).total_nano_usd + cost_of(b, price).total_nano_usd
    assert cost_of(both, price).total_nano_usd == separate


@given(usages(), prices)
def test_a_cached_prompt_never_costs_more_when_its_rate_is_lower(usage, price):
    if price.cached_nano_usd_per_token <= price.prompt_nano_usd_per_token:
        uncached = Usage(usage.prompt_tokens, 0, usage.completion_tokens)
        assert cost_of(usage, price).total_nano_usd <= cost_of(uncached, price).total_nano_usd


@given(st.integers(-(10**18), 10**18))
def test_formatted_dollars_lose_nothing(nano_usd):
    text = format_usd(nano_usd)
    whole, nano = text.lstrip("-").split(".")
    assert len(nano) == 9
    assert int(whole + nano) * (-1 if text.startswith("-") else 1) == nano_usd


@given(st.integers(0, 2**43), st.integers(0, 2**43))
def test_a_larger_model_is_never_in_a_smaller_class(a, b):
    small, large = sorted((a, b))
    order = SIZE_CLASSES.index
    assert order(size_class_of(small)) <= order(size_class_of(large))
