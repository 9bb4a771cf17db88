from __future__ import annotations

from coordinator.core.price_card import CARD_VERSION, default_price_card
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
