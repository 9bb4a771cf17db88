"""One version of the price card, as the coordinator keeps it and commands show it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protos.domain.resources import CardTerms, Price


class CardState(enum.StrEnum):
    """How far a version of the card is."""

    DRAFT = "draft"
    #: Decided: in force, or in force from its date.
    PUBLISHED = "published"
    #: A later one has taken its place.
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class PriceCard:
    """One version of the price card.

    ``lines`` and ``terms`` carry the card's version. ``terms.valid_from_unix_ms`` of a draft is 0
    when it takes effect with its publication.
    """

    lines: tuple[Price, ...]
    terms: CardTerms
    state: CardState = CardState.DRAFT
    author: str = ""
    proposed_unix_ms: int = 0
    published_by: str = ""
    published_unix_ms: int = 0

    @property
    def version(self) -> int:
        """The card's number."""
        return self.terms.version

    @property
    def valid_from_unix_ms(self) -> int:
        """When it takes effect."""
        return self.terms.valid_from_unix_ms
