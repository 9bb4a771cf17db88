"""The price card: its versions, what was in force when, and new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.card_changes import CardChange, changes_of
from coordinator.core.card_checks import check_card, check_priced
from coordinator.core.price_card import numbered, terms_before
from coordinator.core.price_schedule import card_at, upcoming_cards, version_in_force
from coordinator.operations.acts import Act
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import prices
from protos.domain.card_document import as_draft, iso_utc
from protos.domain.errors import NotFound
from protos.domain.price_card import CardState, PriceCard
from protos.domain.resources import NO_TERMS, CardTerms

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor
    from coordinator.store.store import Store
    from protos.domain.resources import Model, Price


@dataclass(frozen=True, slots=True)
class ShownCard:
    """A version of the card; ``upcoming`` is the next one that is published for later."""

    card: PriceCard
    in_force: bool
    upcoming: PriceCard | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """A draft, and how it differs from the card in force."""

    card: PriceCard
    against: int
    changes: Sequence[CardChange]


class Prices(UseCases):
    """The price card. Accounts read it; operators propose; an admin publishes."""

    @use_case(Act.PRICE_LIST)
    async def list_all(self, actor: Actor) -> Sequence[Price]:
        """Return the lines of the card in force."""
        return [price for _, price in sorted(self._store.view().prices.items())]

    @use_case(Act.PRICE_SHOW)
    async def show(self, actor: Actor, version: int = 0, at_unix_ms: int = 0) -> ShownCard:
        """Return a version, or the card of a moment; neither: the card in force.

        An account sees no drafts. Raises: NotFound.
        """
        cards = self._store.price_cards()
        in_force = version_in_force(self._store.view())
        if not version and not at_unix_ms:
            return present_card(self._store)
        found = cards.get(version) if version else card_at(cards.values(), at_unix_ms)
        if found is None or (found.state is CardState.DRAFT and actor.role is None):
            raise NotFound(
                f"there is no version {version} of the price card"
                if version
                else f"no price card was in force at {iso_utc(at_unix_ms)}",
                "edgeforge price history lists all",
            )
        return ShownCard(found, found.version == in_force)

    @use_case(Act.PRICE_HISTORY)
    async def history(self, actor: Actor) -> Sequence[ShownCard]:
        """Return every version, the newest first."""
        in_force = version_in_force(self._store.view())
        cards = sorted(self._store.price_cards().values(), key=lambda card: -card.version)
        return [ShownCard(card, card.version == in_force) for card in cards]

    @use_case(Act.PRICE_PROPOSE)
    async def propose(
        self, actor: Actor, card: PriceCard, *, valid_from_unix_ms: int = 0, dry_run: bool = False
    ) -> Proposal:
        """Keep a draft under the next number, or with ``dry_run`` only check it.

        ``valid_from_unix_ms`` 0: from its publication. Raises: InvalidRequest naming every problem.
        """
        now_unix_ms = self._parts.now_unix_ms()
        draft = as_draft(card, str(actor), now_unix_ms, valid_from_unix_ms)
        present = present_card(self._store) if self._store.view().prices else None
        changes = changes_of(
            (present.card.lines, present.card.terms) if present else ((), CardTerms(0)),
            (draft.lines, draft.terms),
        )
        against = present.card.version if present else 0
        deployed = deployed_classes(self._store)

        def check(made: PriceCard, others: Sequence[PriceCard], at_unix_ms: int) -> None:
            check_card(made, others, deployed, at_unix_ms)

        if dry_run:
            others = list(self._store.price_cards().values())
            version = max((one.version for one in others), default=0) + 1
            made = numbered(draft, version, valid_from_unix_ms)
            check(made, others, now_unix_ms)
            return Proposal(made, against, changes)
        note = note_of(actor, Act.PRICE_PROPOSE, "price_card", f"{len(changes)} changes")
        made = await self._store.write(prices.propose(draft, check), note)
        return Proposal(made, against, changes)

    @use_case(Act.PRICE_PUBLISH, named("price_card"))
    async def publish(self, actor: Actor, version: int) -> ShownCard:
        """Publish a draft: in force at its date by itself, at once if it has none.

        Raises: NotFound, Conflict, InvalidRequest.
        """
        deployed = deployed_classes(self._store)

        def check(card: PriceCard, others: Sequence[PriceCard], at_unix_ms: int) -> None:
            check_card(card, others, deployed, at_unix_ms)

        note = note_of(actor, Act.PRICE_PUBLISH, f"price_card/{version}")
        card = await self._store.write(prices.publish(version, str(actor), check), note)
        return ShownCard(card, card.version == version_in_force(self._store.view()))


def present_card(store: Store) -> ShownCard:
    """Return the card in force, with the next one that is published. Raises: NotFound."""
    view, cards = store.view(), store.price_cards()
    in_force = version_in_force(view)
    if not view.prices:
        raise NotFound("there is no price card", "edgeforge price propose FILE, then publish it")
    card = cards.get(in_force)
    if card is None:  # rows from before versions were kept
        lines = tuple(price for _, price in sorted(view.prices.items()))
        terms = view.card.get("terms") or terms_before(in_force)
        card = PriceCard(lines, terms, CardState.PUBLISHED)
    coming = upcoming_cards(cards.values(), in_force)
    return ShownCard(card, True, coming[0] if coming else None)


def public_card(store: Store) -> tuple[PriceCard, PriceCard | None]:
    """Return the card in force, without a line if there is none, and the next one."""
    try:
        shown = present_card(store)
    except NotFound:
        return PriceCard((), NO_TERMS), None
    return shown.card, shown.upcoming


def deployed_classes(store: Store) -> dict[str, str]:
    """Return deployment -> size class of its model, of next versions too."""
    view = store.view()
    found: dict[str, str] = {}
    for name, one in view.deployments.items():
        for model_name in (one.model, one.next.model if one.next else one.model):
            model = view.models.get(model_name)
            if model is not None:
                found[name if model_name == one.model else f"{name} (next)"] = model.size_class
    return found


def require_price(store: Store, model: Model) -> None:
    """Refuse to deploy a model that is not priced, now or on a published card.

    Raises: InvalidRequest.
    """
    view = store.view()
    coming = upcoming_cards(store.price_cards().values(), version_in_force(view))
    check_priced(model.size_class, model.name, tuple(view.prices.values()), coming)
