"""Facts of the price card: each version, drafts and superseded ones too."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import ClassVar

from coordinator.store.fact_types import FactType, fact_json
from protos.domain.price_card import CardState, PriceCard
from protos.domain.resources import CardTerms, Price, Tier

_TERMS_FIELDS = frozenset(one.name for one in fields(CardTerms))


@dataclass(frozen=True, slots=True)
class PriceCardRow:
    """A version of the price card."""

    TYPE: ClassVar = FactType.PRICE_CARD

    card: PriceCard

    @property
    def key(self) -> str:
        """The version."""
        return str(self.card.version)

    def encode(self) -> bytes:
        """Return the payload."""
        card = self.card
        return fact_json(
            lines=[
                [
                    line.size_class,
                    line.tier,
                    line.prompt_nano_usd_per_token,
                    line.cached_nano_usd_per_token,
                    line.completion_nano_usd_per_token,
                    line.card_version,
                ]
                for line in card.lines
            ],
            terms=asdict(card.terms),
            state=card.state,
            author=card.author,
            proposed_unix_ms=card.proposed_unix_ms,
            published_by=card.published_by,
            published_unix_ms=card.published_unix_ms,
        )

    @classmethod
    def decode(cls, key: str, payload: bytes) -> PriceCardRow:
        """Return the fact in ``payload``."""
        value = json.loads(payload)
        terms = {name: one for name, one in value["terms"].items() if name in _TERMS_FIELDS}
        return cls(
            PriceCard(
                lines=tuple(
                    Price(size_class, Tier(tier), *rates)
                    for size_class, tier, *rates in value["lines"]
                ),
                terms=CardTerms(**terms),
                state=CardState(value["state"]),
                author=value.get("author", ""),
                proposed_unix_ms=value.get("proposed_unix_ms", 0),
                published_by=value.get("published_by", ""),
                published_unix_ms=value.get("published_unix_ms", 0),
            )
        )
