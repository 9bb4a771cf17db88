"""Versions of the price card: lines and terms, and the card that a new coordinator starts with.

Cards are never changed once they are published: a record of usage names the version that it was
priced by, and is verified against it for as long as the fleet exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from protos.domain.price_card import CardState, PriceCard
from protos.domain.resources import CardTerms, Price, Tier

CARD_VERSION = 1

#: Central rates in nano-USD per token: prompt, cached prompt, completion. One nano-USD per token
#: is a tenth of a cent for a million tokens. Multiples of ten, so that both premiums are exact.
CENTRAL_RATES_NANO_USD = {
    "xs": (20, 10, 40),
    "s": (60, 30, 120),
    "m": (150, 70, 300),
    "l": (400, 200, 800),
    "xl": (900, 450, 1_800),
}

#: Premium over central, since space and power cost more there: edge is sold 15-25 % above central.
PREMIUM_PERCENT = {Tier.EDGE: 20, Tier.REGIONAL: 10, Tier.CENTRAL: 0}

#: Surcharges, promise and credit of the card that a new coordinator starts with.
DEFAULT_TERMS = CardTerms(
    CARD_VERSION,
    realtime_percent=10,
    interactive_percent=5,
    residency_percent=10,
    promise_percent=95,
    credit_percent=10,
)


def numbered(card: PriceCard, version: int, valid_from_unix_ms: int) -> PriceCard:
    """Return ``card`` as ``version``, in its lines and terms alike."""
    return replace(
        card,
        lines=tuple(replace(line, card_version=version) for line in card.lines),
        terms=replace(card.terms, version=version, valid_from_unix_ms=valid_from_unix_ms),
    )


def line_of(lines: Iterable[Price], size_class: str, tier: Tier) -> Price | None:
    """Return a card's line for a size class and a tier."""
    for line in lines:
        if line.size_class == size_class and line.tier is tier:
            return line
    return None


def card_of(
    cards: Mapping[int, PriceCard], version: int
) -> tuple[tuple[Price, ...], CardTerms] | None:
    """Return lines and terms of a version that was published at some time, None of any other."""
    card = cards.get(version)
    if card is None or card.state is CardState.DRAFT:
        return None
    return card.lines, card.terms


def default_price_card() -> tuple[Price, ...]:
    """Return one line for each size class and tier."""
    return tuple(
        Price(
            size_class=size_class,
            tier=tier,
            prompt_nano_usd_per_token=_with_premium(prompt, percent),
            cached_nano_usd_per_token=_with_premium(cached, percent),
            completion_nano_usd_per_token=_with_premium(completion, percent),
            card_version=CARD_VERSION,
        )
        for size_class, (prompt, cached, completion) in CENTRAL_RATES_NANO_USD.items()
        for tier, percent in PREMIUM_PERCENT.items()
    )


def terms_before(version: int) -> CardTerms:
    """Return the terms of a card from before cards had any: no surcharge, and nothing promised."""
    return CardTerms(version, promise_percent=0, credit_percent=0)


def first_card(author: str, now_unix_ms: int) -> PriceCard:
    """Return the card that a new coordinator starts with, in force from now on."""
    card = PriceCard(
        default_price_card(),
        DEFAULT_TERMS,
        CardState.PUBLISHED,
        author,
        now_unix_ms,
        author,
        now_unix_ms,
    )
    return numbered(card, CARD_VERSION, now_unix_ms)


def _with_premium(rate_nano_usd: int, percent: int) -> int:
    return rate_nano_usd * (100 + percent) // 100
