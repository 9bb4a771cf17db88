"""A version of the price card."""

from __future__ import annotations

from protos.domain.price_card import CardState, PriceCard
from protos.domain.resources import CardTerms


def test_number_and_date_of_a_card_are_those_of_its_terms():
    card = PriceCard((), CardTerms(7, valid_from_unix_ms=70))
    assert (card.version, card.valid_from_unix_ms) == (7, 70)
    assert card.state is CardState.DRAFT
