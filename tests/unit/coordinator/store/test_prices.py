"""Versions of the price card in the store: numbered, published, in force, adopted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.price_card import (
    card_of,
    default_price_card,
    first_card,
    numbered,
    terms_before,
)
from coordinator.core.price_schedule import version_in_force
from coordinator.store import prices
from coordinator.store.price_facts import PriceCardRow
from protos.domain.errors import Conflict, InvalidRequest, NotFound, TooLarge
from protos.domain.price_card import CardState
from protos.domain.resources import Price, ResourceType, Tier
from tests.support.stores import DAY_MS, START_UNIX_MS, MemoryStore

FIRST = first_card("coordinator", START_UNIX_MS)


@pytest.fixture
def store():
    store = MemoryStore()
    store.write(prices.begin(FIRST))
    yield store
    store.close()


def any_card(card, others, now_unix_ms):
    """Accept every card."""


def draft(valid_from: int = 0, prompt: int = 25):
    lines = (replace(FIRST.lines[0], prompt_nano_usd_per_token=prompt), *FIRST.lines[1:])
    card = replace(FIRST, lines=lines, state=CardState.DRAFT)
    return numbered(card, 0, valid_from)


def cards(store):
    return store.facts.price_cards


def in_force(store):
    return version_in_force(store.projection.view)


def prompt(store):
    return store.projection.view.prices["xs", Tier.EDGE].prompt_nano_usd_per_token


def test_a_fact_of_a_card_is_read_back(store):
    row = PriceCardRow(FIRST)
    assert PriceCardRow.decode(row.key, row.encode()) == row


def test_a_proposal_changes_no_row(store):
    before = store.projection.table(ResourceType.PRICES, "")
    made = store.write(prices.propose(draft(), any_card))
    assert (made.version, made.state) == (2, CardState.DRAFT)
    assert {line.card_version for line in made.lines} == {2}
    assert store.projection.table(ResourceType.PRICES, "") == before


def test_a_card_without_a_date_is_in_force_with_its_publication_in_one_push(store):
    store.write(prices.propose(draft(), any_card))
    before = store.projection.table(ResourceType.PRICES, "").at
    done = store.write(prices.publish(2, "operator/ana", any_card))
    assert (done.valid_from_unix_ms, done.published_by) == (START_UNIX_MS, "operator/ana")
    assert (in_force(store), prompt(store)) == (2, 25)
    assert cards(store)[1].state is CardState.SUPERSEDED
    delta = store.projection.delta_since(ResourceType.PRICES, "", before.version)
    assert delta is not None
    assert len(delta.upserts) == 16, "15 lines and the terms, at once"
    assert card_of(cards(store), 1) == (FIRST.lines, FIRST.terms), "for records of before"


def test_a_card_of_later_waits_for_its_date(store):
    store.write(prices.propose(draft(START_UNIX_MS + DAY_MS), any_card))
    store.write(prices.publish(2, "operator/ana", any_card))
    assert (in_force(store), prompt(store)) == (1, 24)
    assert cards(store)[2].state is CardState.PUBLISHED
    assert store.write(prices.take_effect(2))
    assert (in_force(store), prompt(store)) == (2, 25)
    assert not store.write(prices.take_effect(2)), "once"


def test_an_older_card_never_takes_effect_again(store):
    store.write(prices.propose(draft(), any_card))
    store.write(prices.publish(2, "operator/ana", any_card))
    assert not store.write(prices.take_effect(1))
    assert not store.write(prices.take_effect(9))
    assert in_force(store) == 2


def test_a_published_card_is_never_published_or_changed_again(store):
    with pytest.raises(Conflict, match="version 1 of the price card is published already"):
        store.write(prices.publish(1, "operator/ana", any_card))
    with pytest.raises(NotFound, match="no version 7"):
        store.write(prices.publish(7, "operator/ana", any_card))


def test_a_refused_card_leaves_everything_as_it_was(store):
    store.write(prices.propose(draft(), any_card))

    def refuse(card, others, now_unix_ms):
        assert [one.version for one in others] == [1]
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest, match="no"):
        store.write(prices.publish(2, "operator/ana", refuse))
    assert (in_force(store), cards(store)[2].state) == (1, CardState.DRAFT)


def test_a_line_that_the_next_card_lacks_is_gone_with_it(store):
    store.write(prices.put([Price("old", Tier.EDGE, 1, 1, 1, 1)]))
    store.write(prices.propose(draft(), any_card))
    store.write(prices.publish(2, "operator/ana", any_card))
    assert ("old", Tier.EDGE) not in store.projection.view.prices


def test_the_oldest_draft_makes_room_and_no_published_card_does(store, monkeypatch):
    monkeypatch.setattr(prices, "MAX_DRAFTS", 2)
    for _ in range(4):
        store.write(prices.propose(draft(), any_card))
    assert sorted(cards(store)) == [1, 4, 5]
    monkeypatch.setattr(prices, "MAX_CARDS", 1)
    with pytest.raises(TooLarge):
        store.write(prices.propose(draft(), any_card))


def test_a_restarted_coordinator_knows_every_version(store):
    store.write(prices.propose(draft(START_UNIX_MS + DAY_MS), any_card))
    store.write(prices.publish(2, "operator/ana", any_card))
    assert store.reloaded().facts.price_cards == cards(store)


def test_a_card_from_before_versions_is_adopted_as_it_is():
    store = MemoryStore()
    store.write(prices.put(default_price_card()))
    before = store.projection.table(ResourceType.PRICES, "")
    assert store.write(prices.adopt())
    assert store.projection.table(ResourceType.PRICES, "") == before, "agents are sent nothing"
    (card,) = cards(store).values()
    assert (card.state, card.terms) == (CardState.PUBLISHED, terms_before(1))
    assert set(card.lines) == set(default_price_card())
    assert not store.write(prices.adopt()), "once"
    store.write(prices.propose(draft(), any_card))
    store.write(prices.publish(2, "operator/ana", any_card))
    assert (in_force(store), cards(store)[1].state) == (2, CardState.SUPERSEDED)
    store.close()


def test_a_fleet_without_a_card_has_none_to_adopt():
    store = MemoryStore()
    assert not store.write(prices.adopt())
    assert cards(store) == {}
    store.close()
