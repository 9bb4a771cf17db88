"""The price card: its versions, and the rows of the one in force."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.core.price_card import numbered, terms_before
from coordinator.store.price_facts import PriceCardRow
from protos.domain.errors import Conflict, NotFound, TooLarge
from protos.domain.price_card import CardState, PriceCard
from protos.domain.resources import CardTerms, Price, ResourceType, row_key

if TYPE_CHECKING:
    from coordinator.store.transaction import Transaction, Write

#: Versions that are kept; published ones are never dropped, since records name them.
MAX_CARDS = 2_000
#: Drafts at once; a new one takes the place of the oldest.
MAX_DRAFTS = 20
#: What is known of a card from before versions were kept.
ADOPTED_AUTHOR = "coordinator"

#: Checks a card beside the others within the transaction. Raises: InvalidRequest.
Check = Callable[[PriceCard, Sequence[PriceCard], int], None]


def put(prices: Sequence[Price]) -> Write[None]:
    """Create or replace lines of the price card in force."""

    def write(tx: Transaction) -> None:
        for price in prices:
            tx.put(price)

    return write


def begin(card: PriceCard) -> Write[None]:
    """Put the first card of a fleet in force."""

    def write(tx: Transaction) -> None:
        _take_effect(tx, card)

    return write


def adopt() -> Write[bool]:
    """Keep the card in force as a version, in a database from before there were versions.

    The rows that agents hold stay as they are. Returns whether there was one to keep.
    """

    def write(tx: Transaction) -> bool:
        lines, terms = _rows(tx)
        versions = {line.card_version for line in lines}
        if terms is not None:
            versions.add(terms.version)
        version = max(versions, default=0)
        if not lines or tx.fact(PriceCardRow, str(version)) is not None:
            return False
        card = PriceCard(
            lines=lines,
            terms=terms or terms_before(version),
            state=CardState.PUBLISHED,
            author=ADOPTED_AUTHOR,
            published_by=ADOPTED_AUTHOR,
        )
        tx.put_fact(PriceCardRow(card))
        return True

    return write


def propose(card: PriceCard, check: Check) -> Write[PriceCard]:
    """Keep a draft under the next number. Raises: TooLarge, and what ``check`` raises."""

    def write(tx: Transaction) -> PriceCard:
        cards = _cards(tx)
        version = max((one.version for one in cards), default=0) + 1
        made = numbered(card, version, card.valid_from_unix_ms)
        check(made, cards, tx.now_unix_ms)
        drafts = [one for one in cards if one.state is CardState.DRAFT]
        if len(cards) - len(drafts) >= MAX_CARDS:
            raise TooLarge(f"{MAX_CARDS} versions of the price card are kept, which are all")
        for oldest in drafts[: len(drafts) - MAX_DRAFTS + 1]:
            tx.remove_fact(PriceCardRow.TYPE, str(oldest.version))
        tx.put_fact(PriceCardRow(made))
        return made

    return write


def publish(version: int, by: str, check: Check) -> Write[PriceCard]:
    """Publish a draft; one without a date, or whose date is now, is put in force at once.

    Raises: NotFound, Conflict, and what ``check`` raises.
    """

    def write(tx: Transaction) -> PriceCard:
        cards = _cards(tx)
        found = next((one for one in cards if one.version == version), None)
        if found is None:
            raise NotFound(
                f"there is no version {version} of the price card", "edgeforge price history"
            )
        if found.state is not CardState.DRAFT:
            raise Conflict(
                f"version {version} of the price card is {found.state} already",
                "a published card is never changed: propose another one",
                retryable=False,
            )
        check(found, [one for one in cards if one is not found], tx.now_unix_ms)
        valid_from_unix_ms = found.valid_from_unix_ms or tx.now_unix_ms
        card = replace(
            numbered(found, version, valid_from_unix_ms),
            state=CardState.PUBLISHED,
            published_by=by,
            published_unix_ms=tx.now_unix_ms,
        )
        if valid_from_unix_ms <= tx.now_unix_ms:
            _take_effect(tx, card)
        else:
            tx.put_fact(PriceCardRow(card))
        return card

    return write


def take_effect(version: int) -> Write[bool]:
    """Put a published card in force; False if it is not published, or a later one is in force."""

    def write(tx: Transaction) -> bool:
        row = tx.fact(PriceCardRow, str(version))
        lines, terms = _rows(tx)
        present = terms.version if terms else max((one.card_version for one in lines), default=0)
        if row is None or row.card.state is not CardState.PUBLISHED or present >= version:
            return False
        _take_effect(tx, row.card)
        return True

    return write


def _take_effect(tx: Transaction, card: PriceCard) -> None:
    """Replace every row by those of ``card``, and supersede the versions before it.

    In one transaction, which is one push: an agent changes from one card to the other at once.
    """
    kept = {row_key(line) for line in card.lines}
    for key in tx.keys(ResourceType.PRICES, "price/"):
        if key not in kept:
            tx.remove(ResourceType.PRICES, key)
    for line in card.lines:
        tx.put(line)
    tx.put(card.terms)
    for one in _cards(tx):
        if one.version < card.version and one.state is CardState.PUBLISHED:
            tx.put_fact(PriceCardRow(replace(one, state=CardState.SUPERSEDED)))
    tx.put_fact(PriceCardRow(card))


def _cards(tx: Transaction) -> list[PriceCard]:
    return sorted((row.card for row in tx.facts(PriceCardRow)), key=lambda card: card.version)


def _rows(tx: Transaction) -> tuple[tuple[Price, ...], CardTerms | None]:
    """Return the rows of the card in force."""
    found = [tx.get(ResourceType.PRICES, key) for key in tx.keys(ResourceType.PRICES)]
    lines = tuple(one for one in found if isinstance(one, Price))
    terms = next((one for one in found if isinstance(one, CardTerms)), None)
    return lines, terms
