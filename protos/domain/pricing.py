"""Prices and costs: integers in nano-USD; the parts sum to the total."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from protos.domain.errors import InvalidRequest
from protos.domain.resources import SlaTier

if TYPE_CHECKING:
    from protos.domain.resources import CardTerms, Price

#: Most tokens of one kind in one request, so that no cost exceeds 64 bits.
MAX_TOKENS = 100_000_000

_NANO_PER_USD = 1_000_000_000
_GIB = 1024**3

#: Size classes by the bytes of a model's weights: the first bound not exceeded applies.
#: In 16-bit parameters: up to about 1, 4, 10 and 40 billion.
SIZE_CLASS_BOUNDS_BYTES = (
    ("xs", 2 * _GIB),
    ("s", 8 * _GIB),
    ("m", 20 * _GIB),
    ("l", 80 * _GIB),
)
SIZE_CLASSES = (*(name for name, _ in SIZE_CLASS_BOUNDS_BYTES), "xl")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request; ``cached_tokens`` are a part of ``prompt_tokens``."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one request, in parts; ``prompt_nano_usd`` is for the tokens not cached."""

    prompt_nano_usd: int
    cached_nano_usd: int
    completion_nano_usd: int

    @property
    def total_nano_usd(self) -> int:
        """The sum of the parts."""
        return self.prompt_nano_usd + self.cached_nano_usd + self.completion_nano_usd


def cost_of(usage: Usage, price: Price) -> Cost:
    """Return the cost of ``usage`` at ``price``. Raises: InvalidRequest for impossible usage."""
    if not 0 <= usage.cached_tokens <= usage.prompt_tokens <= MAX_TOKENS:
        raise InvalidRequest(
            f"{usage.cached_tokens} cached of {usage.prompt_tokens} prompt tokens is impossible"
        )
    if not 0 <= usage.completion_tokens <= MAX_TOKENS:
        raise InvalidRequest(f"{usage.completion_tokens} completion tokens is impossible")
    fresh_tokens = usage.prompt_tokens - usage.cached_tokens
    return Cost(
        prompt_nano_usd=fresh_tokens * price.prompt_nano_usd_per_token,
        cached_nano_usd=usage.cached_tokens * price.cached_nano_usd_per_token,
        completion_nano_usd=usage.completion_tokens * price.completion_nano_usd_per_token,
    )


def surcharged(price: Price, terms: CardTerms, sla_tier: SlaTier, *, pinned: bool) -> Price:
    """Return ``price`` with the surcharges of an SLA tier, and of residency if ``pinned``.

    The percents are added to each other, then to each rate, which is rounded half up to a whole
    nano-USD per token.
    """
    percent = percent_of(terms, sla_tier) + (terms.residency_percent if pinned else 0)
    if percent == 0:
        return price
    return replace(
        price,
        prompt_nano_usd_per_token=_with_percent(price.prompt_nano_usd_per_token, percent),
        cached_nano_usd_per_token=_with_percent(price.cached_nano_usd_per_token, percent),
        completion_nano_usd_per_token=_with_percent(price.completion_nano_usd_per_token, percent),
    )


def percent_of(terms: CardTerms, sla_tier: SlaTier) -> int:
    """Return the surcharge of ``sla_tier`` in percent."""
    if sla_tier is SlaTier.REALTIME:
        return terms.realtime_percent
    if sla_tier is SlaTier.INTERACTIVE:
        return terms.interactive_percent
    return terms.standard_percent


def _with_percent(rate_nano_usd: int, percent: int) -> int:
    return (rate_nano_usd * (100 + percent) + 50) // 100


def rate_nano_usd_per_1k_tokens(price: Price) -> int:
    """Return the rate by which targets are compared: 1,000 prompt plus 1,000 completion tokens."""
    return 1_000 * (price.prompt_nano_usd_per_token + price.completion_nano_usd_per_token)


def size_class_of(weights_bytes: int) -> str:
    """Return the price class of a model, "xs" to "xl", by the size of its weights."""
    for name, bound_bytes in SIZE_CLASS_BOUNDS_BYTES:
        if weights_bytes <= bound_bytes:
            return name
    return "xl"


def format_usd(nano_usd: int) -> str:
    """Return dollars with nine decimals, as in ``x-edgeforge-cost-usd``: "0.000012345"."""
    sign = "-" if nano_usd < 0 else ""
    dollars, nano = divmod(abs(nano_usd), _NANO_PER_USD)
    return f"{sign}{dollars}.{nano:09d}"
