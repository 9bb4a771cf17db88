from __future__ import annotations

import orjson

from coordinator.api.price_page import card_html, card_json
from coordinator.core.price_card import default_price_card
from protos.domain.resources import Price, Tier


def test_the_card_as_json_is_integers_in_a_stated_unit():
    card = orjson.loads(card_json(reversed(default_price_card())))
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


def test_the_version_of_a_card_is_that_of_its_newest_line():
    card = orjson.loads(card_json([Price("xs", Tier.EDGE, 1, 1, 1, 4), _line("s", 7)]))
    assert card["card_version"] == 7
    assert orjson.loads(card_json([]))["card_version"] == 0


def test_the_page_shows_usd_for_a_million_tokens():
    page = card_html([Price("xs", Tier.CENTRAL, 20, 1, 1_234_567, 1)])
    assert "<td>xs</td><td>central</td><td>0.020</td><td>0.001</td><td>1234.567</td>" in page


def test_nothing_in_a_price_becomes_markup():
    page = card_html([_line("<script>", 1)])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_an_unknown_size_class_comes_last():
    card = orjson.loads(card_json([_line("aa", 1), _line("xl", 1)]))
    assert [line["size_class"] for line in card["prices"]] == ["xl", "aa"]


def _line(size_class: str, card_version: int) -> Price:
    return Price(size_class, Tier.EDGE, 1, 1, 1, card_version)
