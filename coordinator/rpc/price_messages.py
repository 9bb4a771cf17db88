"""The price card and quotes as messages, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.errors import InvalidRequest
from protos.domain.price_card import PriceCard
from protos.v1 import prices_pb2, resources_pb2
from protos.wire import price_from_wire, price_to_wire, terms_from_wire, terms_to_wire

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordinator.core.card_changes import CardChange
    from coordinator.operations.prices import ShownCard
    from coordinator.operations.quotes import Quoted
    from protos.domain.quote import QuoteLine
    from protos.domain.resources import CardTerms, Price


def card_to_wire(card: PriceCard) -> prices_pb2.PriceCard:
    """Return a version of the card as a message."""
    return prices_pb2.PriceCard(
        lines=map(price_to_wire, card.lines),
        terms=terms_to_wire(card.terms),
        state=card.state,
        author=card.author,
        proposed_unix_ms=card.proposed_unix_ms,
        published_by=card.published_by,
        published_unix_ms=card.published_unix_ms,
    )


def info_to_wire(shown: ShownCard) -> prices_pb2.CardInfo:
    """Return a card with what comes after it."""
    return prices_pb2.CardInfo(
        card=card_to_wire(shown.card),
        in_force=shown.in_force,
        upcoming=None if shown.upcoming is None else card_to_wire(shown.upcoming),
    )


def lines_from_wire(messages: Iterable[resources_pb2.Price]) -> tuple[Price, ...]:
    """Return lines that somebody sent. Raises: InvalidRequest for one without a tier."""
    lines = []
    for message in messages:
        if message.tier == resources_pb2.TIER_UNSPECIFIED:
            raise InvalidRequest(f"a line of size class {message.size_class[:20]!r} has no tier")
        lines.append(price_from_wire(message))
    return tuple(lines)


def proposal_from_wire(
    request: prices_pb2.ProposeCardRequest,
) -> tuple[PriceCard, int]:
    """Return the draft that is proposed, and its date."""
    terms: CardTerms = terms_from_wire(request.terms)
    return PriceCard(lines_from_wire(request.lines), terms), terms.valid_from_unix_ms


def change_to_wire(change: CardChange) -> prices_pb2.CardChange:
    """Return one difference between two cards."""
    return prices_pb2.CardChange(
        what=change.what, before=change.before, after=change.after, percent=change.percent
    )


def quoted_to_wire(quoted: Quoted) -> prices_pb2.QuoteResponse:
    """Return a quote."""
    own_ms = float(quoted.deployment.ttft_budget_ms)
    return prices_pb2.QuoteResponse(
        deployment=quoted.deployment.name,
        card_version=quoted.card_version,
        prompt_tokens=quoted.usage.prompt_tokens,
        cached_tokens=quoted.usage.cached_tokens,
        completion_tokens=quoted.usage.completion_tokens,
        from_unix_ms=quoted.from_unix_ms,
        to_unix_ms=quoted.to_unix_ms,
        lines=[_line_to_wire(line, is_present=line.budget_ms == own_ms) for line in quoted.lines],
        notes=quoted.notes,
    )


def _line_to_wire(line: QuoteLine, *, is_present: bool) -> prices_pb2.QuoteLine:
    return prices_pb2.QuoteLine(
        budget_ms=line.budget_ms,
        requests=line.requests,
        streams=line.streams,
        predicted_misses=line.predicted_misses,
        refused=line.refused,
        total_nano_usd=line.total_nano_usd,
        nano_usd_per_million_tokens=line.nano_usd_per_million_tokens,
        median_nano_usd=line.median_nano_usd,
        kept_ratio=line.kept_ratio,
        observed_ratio=line.observed_ratio,
        billed_by_tier=line.billed_by_tier,
        is_present=is_present,
    )
