"""Messages of the price card as the command line shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.price_card import CardState, PriceCard
from protos.wire import price_from_wire, terms_from_wire

if TYPE_CHECKING:
    from protos.v1 import prices_pb2


def card_from_wire(message: prices_pb2.PriceCard) -> PriceCard:
    """Return a version of the card that a coordinator sent."""
    return PriceCard(
        lines=tuple(map(price_from_wire, message.lines)),
        terms=terms_from_wire(message.terms),
        state=CardState(message.state),
        author=message.author,
        proposed_unix_ms=message.proposed_unix_ms,
        published_by=message.published_by,
        published_unix_ms=message.published_unix_ms,
    )
