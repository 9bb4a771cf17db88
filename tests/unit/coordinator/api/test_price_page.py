from __future__ import annotations

from dataclasses import replace

import orjson

from coordinator.api.price_page import card_html, card_json
from coordinator.core.price_card import first_card, numbered
from protos.domain.price_card import PriceCard
from protos.domain.resources import NO_TERMS, Price, Tier

NOW = 1_790_000_000_000
CARD = first_card("ana", NOW)
NEXT = numbered(CARD, 2, NOW + 86_400_000)


def of(*lines: Price) -> PriceCard:
    return PriceCard(lines, replace(NO_TERMS, version=max(one.card_version for one in lines)))


def test_the_card_as_json_is_integers_in_a_stated_unit():
    card = orjson.loads(card_json(replace(CARD, lines=CARD.lines[::-1])))
    assert card["unit"] == "nano-USD per token"
    assert [(line["size_class"], line["tier"]) for line in card["prices"]][:4] == [
        ("xs", "edge"),
        ("xs", "regional"),
        ("xs", "central"),
        ("s", "edge"),
    ]
    assert all(
        isinstance(value, int)
        for line in card["prices"]
        for key, value in line.items()
        if key.endswith("_nano_usd_per_token")
    )


def test_surcharges_promise_and_examples_are_public():
    card = orjson.loads(card_json(CARD))
    assert card["card_version"] == 1
    assert card["valid_from_unix_ms"] == NOW
    assert card["surcharges_percent"] == {
        "realtime": 10,
        "interactive": 5,
        "standard": 0,
        "residency": 10,
    }
    assert (card["promise_percent"], card["credit_percent"]) == (95, 10)
    dearest = card["examples"][-1]
    assert (dearest["tier"], dearest["residency"]) == ("edge", True)
    assert dearest["surcharge_percent"] == 20
    page = card_html(CARD)
    assert "95 % of a month's" in page
    assert "<td>residency</td>" in page
    assert "What a million tokens cost" in page
    assert "<td>m central</td><td>standard</td><td>+0 %</td><td>0.1480</td>" in page


def test_the_card_that_comes_next_is_shown_with_its_date():
    assert orjson.loads(card_json(CARD))["upcoming"] is None
    coming = orjson.loads(card_json(CARD, NEXT))["upcoming"]
    assert (coming["card_version"], coming["valid_from"]) == (2, "2026-09-22T14:13:20Z")
    assert len(coming["prices"]) == 15
    assert "From 2026-09-22T14:13:20Z" in card_html(CARD, NEXT)
    assert 'class="soon"' not in card_html(CARD)


def test_a_card_that_promises_nothing_says_nothing_of_a_promise():
    page = card_html(replace(CARD, terms=replace(CARD.terms, promise_percent=0)))
    assert "of a month's" not in page


def test_who_wrote_a_card_is_not_public():
    named = replace(CARD, author="operator/ana", published_by="operator/ana")
    assert b"operator/ana" not in card_json(named, named)
    assert "operator/ana" not in card_html(named, named)


def test_the_page_shows_usd_for_a_million_tokens():
    page = card_html(of(Price("xs", Tier.CENTRAL, 20, 1, 1_234_567, 1)))
    assert "<td>xs</td><td>central</td><td>0.020</td><td>0.001</td><td>1234.567</td>" in page


def test_nothing_in_a_price_becomes_markup():
    page = card_html(of(_line("<script>", 1)))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_fleet_without_a_card_shows_an_empty_one():
    card = PriceCard((), NO_TERMS)
    assert orjson.loads(card_json(card))["prices"] == []
    assert "<h1>Prices</h1>" in card_html(card)


def test_an_unknown_size_class_comes_last():
    card = orjson.loads(card_json(of(_line("aa", 1), _line("xl", 1))))
    assert [line["size_class"] for line in card["prices"]] == ["xl", "aa"]


def _line(size_class: str, card_version: int) -> Price:
    return Price(size_class, Tier.EDGE, 1, 1, 1, card_version)
