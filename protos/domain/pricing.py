"""Money: integers in nano-USD, whose parts sum to the whole."""

from __future__ import annotations

from dataclasses import dataclass

from protos.domain.resources import Price


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request; ``cached_tokens`` are a part of ``prompt_tokens``."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What one request costs, in parts."""

    prompt_nano_usd: int
    cached_nano_usd: int
    completion_nano_usd: int

    @property
    def total_nano_usd(self) -> int:
        """The sum of the parts."""
        return self.prompt_nano_usd + self.cached_nano_usd + self.completion_nano_usd


def cost_of(usage: Usage, price: Price) -> Cost:
    """Return what ``usage`` costs at ``price``. Raises: InvalidRequest for impossible usage."""
    raise NotImplementedError


def size_class_of(weights_bytes: int) -> str:
    """Return the price class of a model, "xs" to "xl", by the size of its weights."""
    raise NotImplementedError


def format_usd(nano_usd: int) -> str:
    """Return dollars with nine decimals, as in ``x-edgeforge-cost-usd``: "0.000012345"."""
    raise NotImplementedError
