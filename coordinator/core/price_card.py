"""The price card that a new coordinator starts with; operators replace its lines as they like."""

from __future__ import annotations

from protos.domain.resources import Price, Tier

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


def _with_premium(rate_nano_usd: int, percent: int) -> int:
    return rate_nano_usd * (100 + percent) // 100
