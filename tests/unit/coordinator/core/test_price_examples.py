"""The worked examples of the public page."""

from __future__ import annotations

from coordinator.core.price_card import DEFAULT_TERMS, default_price_card
from coordinator.core.price_examples import EXAMPLE, examples_of
from protos.domain.resources import SlaTier, Tier


def test_the_examples_are_of_a_million_tokens():
    assert EXAMPLE.prompt_tokens + EXAMPLE.completion_tokens == 1_000_000


def test_a_million_tokens_by_hand():
    found = {
        (one.tier, one.sla_tier, one.pinned): one
        for one in examples_of(default_price_card(), DEFAULT_TERMS)
    }
    central = found[Tier.CENTRAL, SlaTier.STANDARD, False]
    assert central.nano_usd == 400_000 * 150 + 400_000 * 70 + 200_000 * 300
    pinned = found[Tier.EDGE, SlaTier.REALTIME, True]
    assert pinned.percent == 20
    # 180, 84 and 360 with a fifth more, rounded half up
    assert pinned.nano_usd == 400_000 * 216 + 400_000 * 101 + 200_000 * 432


def test_a_card_without_the_class_has_no_examples():
    assert examples_of((), DEFAULT_TERMS) == []
