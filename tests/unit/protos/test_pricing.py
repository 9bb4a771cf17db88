"""Integers whose parts sum to the whole."""

from __future__ import annotations

from dataclasses import fields

import pytest

from protos.domain.errors import InvalidRequest
from protos.domain.pricing import (
    MAX_TOKENS,
    SIZE_CLASS_BOUNDS_BYTES,
    SIZE_CLASSES,
    Usage,
    cost_of,
    format_usd,
    rate_nano_usd_per_1k_tokens,
    size_class_of,
    surcharged,
)
from protos.domain.resources import CardTerms, Price, SlaTier, Tier

PRICE = Price("xs", Tier.EDGE, 20, 5, 60, 3)


def test_each_kind_of_token_has_its_own_rate():
    cost = cost_of(Usage(prompt_tokens=100, cached_tokens=40, completion_tokens=10), PRICE)
    assert (cost.prompt_nano_usd, cost.cached_nano_usd, cost.completion_nano_usd) == (
        60 * 20,
        40 * 5,
        10 * 60,
    )
    assert cost.total_nano_usd == 2_000
    assert sum(getattr(cost, each.name) for each in fields(cost)) == cost.total_nano_usd


def test_usage_of_zero_costs_zero():
    assert cost_of(Usage(0, 0, 0), PRICE).total_nano_usd == 0


@pytest.mark.parametrize(
    "usage",
    [
        Usage(-1, 0, 0),
        Usage(10, 11, 0),
        Usage(10, -1, 0),
        Usage(10, 0, -1),
        Usage(MAX_TOKENS + 1, 0, 0),
        Usage(0, 0, MAX_TOKENS + 1),
    ],
)
def test_impossible_usage_is_refused(usage):
    with pytest.raises(InvalidRequest):
        cost_of(usage, PRICE)


def test_the_largest_usage_stays_inside_64_bits():
    dear = Price("xl", Tier.EDGE, 100_000, 100_000, 100_000, 1)
    assert cost_of(Usage(MAX_TOKENS, 0, MAX_TOKENS), dear).total_nano_usd < 2**63


def test_targets_are_compared_by_a_thousand_tokens_each_way():
    assert rate_nano_usd_per_1k_tokens(PRICE) == 80_000


def test_size_classes_by_weights():
    assert size_class_of(0) == "xs"
    for index, (name, bound_bytes) in enumerate(SIZE_CLASS_BOUNDS_BYTES):
        assert size_class_of(bound_bytes) == name
        assert size_class_of(bound_bytes + 1) == SIZE_CLASSES[index + 1]
    assert SIZE_CLASSES == ("xs", "s", "m", "l", "xl")
    assert size_class_of(270_000_000) == "xs", "a 135 M model in 16 bits"


@pytest.mark.parametrize(
    ("nano_usd", "text"),
    [
        (0, "0.000000000"),
        (1, "0.000000001"),
        (12_345, "0.000012345"),
        (1_000_000_000, "1.000000000"),
        (-1_500_000_000, "-1.500000000"),
    ],
)
def test_dollars_have_nine_decimals(nano_usd, text):
    assert format_usd(nano_usd) == text


TERMS = CardTerms(
    4, realtime_percent=50, interactive_percent=20, standard_percent=0, residency_percent=7
)


@pytest.mark.parametrize(
    ("sla_tier", "pinned", "rates"),
    [
        (SlaTier.STANDARD, False, (20, 10, 45)),
        (SlaTier.STANDARD, True, (21, 11, 48)),
        (SlaTier.INTERACTIVE, False, (24, 12, 54)),
        (SlaTier.REALTIME, True, (31, 16, 71)),
    ],
)
def test_surcharges_are_added_up_and_rounded_half_up_once_a_rate(
    sla_tier: SlaTier, pinned: bool, rates: tuple[int, int, int]
) -> None:
    price = surcharged(Price("xs", Tier.EDGE, 20, 10, 45, 4), TERMS, sla_tier, pinned=pinned)
    assert (
        price.prompt_nano_usd_per_token,
        price.cached_nano_usd_per_token,
        price.completion_nano_usd_per_token,
    ) == rates
