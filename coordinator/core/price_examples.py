"""Worked examples of what the card means: a million tokens at each tier and SLA tier. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.price_card import line_of
from protos.domain.pricing import Usage, cost_of, percent_of, surcharged
from protos.domain.resources import SlaTier, Tier

if TYPE_CHECKING:
    from protos.domain.resources import CardTerms, Price

#: A million tokens as a conversation has them: half of the prompt was seen before.
EXAMPLE = Usage(prompt_tokens=800_000, cached_tokens=400_000, completion_tokens=200_000)
EXAMPLE_SIZE_CLASS = "m"


@dataclass(frozen=True, slots=True)
class PriceExample:
    """What ``EXAMPLE`` costs at one tier, for a deployment of one SLA tier."""

    size_class: str
    tier: Tier
    sla_tier: SlaTier
    pinned: bool
    percent: int
    nano_usd: int


def examples_of(lines: Collection[Price], terms: CardTerms) -> list[PriceExample]:
    """Return the examples of a card; none where it does not price the size class."""
    cases = [
        *((tier, SlaTier.STANDARD, False) for tier in Tier),
        (Tier.EDGE, SlaTier.INTERACTIVE, False),
        (Tier.EDGE, SlaTier.REALTIME, False),
        (Tier.EDGE, SlaTier.REALTIME, True),
    ]
    found = []
    for tier, sla_tier, pinned in cases:
        line = line_of(lines, EXAMPLE_SIZE_CLASS, tier)
        if line is None:
            continue
        price = surcharged(line, terms, sla_tier, pinned=pinned)
        percent = percent_of(terms, sla_tier) + (terms.residency_percent if pinned else 0)
        total_nano_usd = cost_of(EXAMPLE, price).total_nano_usd
        found.append(
            PriceExample(EXAMPLE_SIZE_CLASS, tier, sla_tier, pinned, percent, total_nano_usd)
        )
    return found
