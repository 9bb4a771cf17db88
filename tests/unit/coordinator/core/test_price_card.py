from __future__ import annotations

from dataclasses import replace

from coordinator.core.price_card import (
    CARD_VERSION,
    card_of,
    default_price_card,
    first_card,
    line_of,
    numbered,
    terms_before,
)
from coordinator.core.sla_credits import is_kept
from protos.domain.price_card import CardState
from protos.domain.pricing import SIZE_CLASSES, rate_nano_usd_per_1k_tokens
from protos.domain.resources import Price, Tier


def card() -> dict[tuple[str, Tier], Price]:
    return {(price.size_class, price.tier): price for price in default_price_card()}


def rates(price: Price) -> tuple[int, int, int]:
    return (
        price.prompt_nano_usd_per_token,
        price.cached_nano_usd_per_token,
        price.completion_nano_usd_per_token,
    )


def test_every_class_has_a_price_in_every_tier():
    assert set(card()) == {(size_class, tier) for size_class in SIZE_CLASSES for tier in Tier}
    assert {price.card_version for price in default_price_card()} == {CARD_VERSION}


def test_edge_is_15_to_25_percent_above_central_and_regional_between():
    for size_class in SIZE_CLASSES:
        lines = (
            rates(card()[size_class, tier]) for tier in (Tier.CENTRAL, Tier.REGIONAL, Tier.EDGE)
        )
        for central, regional, edge in zip(*lines, strict=True):
            assert 115 * central <= 100 * edge <= 125 * central
            assert central < regional < edge


def test_larger_models_cost_more_and_cached_prompts_less():
    for tier in Tier:
        costs = [rate_nano_usd_per_1k_tokens(card()[one, tier]) for one in SIZE_CLASSES]
        assert costs == sorted(set(costs))
    for prompt, cached, completion in map(rates, default_price_card()):
        assert 0 < cached < prompt < completion


def test_the_first_card_is_in_force_from_its_making_with_its_terms():
    first = first_card("coordinator", 1_790_000_000_000)
    assert first.version == CARD_VERSION
    assert first.valid_from_unix_ms == 1_790_000_000_000
    assert first.state is CardState.PUBLISHED
    assert (first.terms.realtime_percent, first.terms.residency_percent) == (10, 10)


def test_lines_and_terms_of_a_version_are_found_for_as_long_as_it_is_kept():
    first = first_card("coordinator", 1)
    cards = {
        1: replace(first, state=CardState.SUPERSEDED),
        2: replace(numbered(first, 2, 9), state=CardState.DRAFT),
    }
    assert card_of(cards, 1) == (first.lines, first.terms)
    assert card_of(cards, 2) is None, "a draft prices nothing"
    assert card_of(cards, 3) is None
    assert line_of(first.lines, "m", Tier.CENTRAL) == card()["m", Tier.CENTRAL]
    assert line_of(first.lines, "xxl", Tier.CENTRAL) is None


def test_a_number_is_on_every_line_and_on_the_terms():
    again = numbered(first_card("coordinator", 1), 7, 70)
    assert {line.card_version for line in again.lines} == {7}
    assert (again.version, again.valid_from_unix_ms) == (7, 70)


def test_a_card_from_before_terms_promises_and_surcharges_nothing():
    terms = terms_before(1)
    assert is_kept(streams=100, streams_in_time=0, promise_percent=terms.promise_percent)
    assert terms.credit_percent == terms.realtime_percent == terms.residency_percent == 0
