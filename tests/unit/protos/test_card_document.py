"""The price card as a document that people write."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace

import pytest

from coordinator.core.price_card import first_card
from protos.domain.card_document import (
    as_draft,
    iso_utc,
    read_card,
    show_card,
    unix_ms_of,
)
from protos.domain.errors import InvalidRequest
from protos.domain.price_card import CardState

NOW = 1_790_000_000_000
CARD = first_card("ana", NOW)
LINE = {
    "size_class": "xs",
    "tier": "edge",
    "prompt_nano_usd_per_token": 24,
    "cached_nano_usd_per_token": 12,
    "completion_nano_usd_per_token": 48,
}
SHOWN = json.loads(json.dumps(show_card(CARD, in_force=True)))


def refusal(document: object) -> str:
    with pytest.raises(InvalidRequest) as raised:
        read_card(document)
    return raised.value.message


def test_what_is_shown_is_read_back():
    read = read_card(SHOWN)
    assert [replace(line, card_version=1) for line in read.lines] == list(CARD.lines)
    assert replace(read.terms, version=1, valid_from_unix_ms=NOW) == CARD.terms
    assert read.state is CardState.DRAFT


def test_toml_is_read_like_json():
    text = """
    promise_percent = 97
    [surcharges_percent]
    realtime = 12
    [[prices]]
    size_class = "xs"
    tier = "edge"
    prompt_nano_usd_per_token = 24
    cached_nano_usd_per_token = 12
    completion_nano_usd_per_token = 48
    """
    read = read_card(tomllib.loads(text))
    assert (read.terms.promise_percent, read.terms.realtime_percent) == (97, 12)
    assert read.lines[0].prompt_nano_usd_per_token == 24


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "it is no table of keys"),
        ("x", "it is no table of keys"),
        ({}, "prices is no list of lines"),
        ({"prices": []}, "prices is no list of lines"),
        ({"prices": "xs"}, "prices is no list of lines"),
        ({"prices": [1]}, "line 1 is no table of keys"),
        ({"prices": [LINE] * 201}, "201 lines are more than 200"),
        ({"prices": [LINE], "pricing": 1}, "'pricing' is no key of it"),
        ({"prices": [LINE | {"promt": 3}]}, "line 1: 'promt' is no key of a line"),
        ({"prices": [LINE], "currency": "EUR"}, "currency is 'EUR', only 'USD' can be"),
        ({"prices": [LINE], "unit": "USD"}, "only 'nano-USD per token' can be"),
        ({"prices": [LINE | {"tier": "moon"}]}, "tier is 'moon'"),
        ({"prices": [LINE | {"tier": ["edge"]}]}, "tier is"),
        ({"prices": [LINE | {"size_class": 7}]}, "size_class is missing"),
        ({"prices": [LINE | {"size_class": "x" * 21}]}, "size_class is missing"),
        ({"prices": [{"size_class": "xs", "tier": "edge"}]}, "prompt_nano_usd_per_token is miss"),
        ({"prices": [LINE], "surcharges_percent": 5}, "surcharges_percent is no table"),
        ({"prices": [LINE], "surcharges_percent": {"gold": 5}}, "'gold' is no surcharge"),
        ({"prices": [LINE], "surcharges_percent": {"realtime": "5%"}}, "'5%', no whole number"),
        ({"prices": [LINE], "promise_percent": None}, "promise_percent is missing"),
    ],
)
def test_a_document_that_is_no_card_is_refused(document, says):
    assert says in refusal(document)


@pytest.mark.parametrize("rate", [12.0, 12.5, "12", True, None, 1 << 31, -1, [12], float("nan")])
def test_a_rate_that_is_no_whole_number_is_refused(rate):
    told = refusal({"prices": [LINE | {"prompt_nano_usd_per_token": rate}]})
    assert "line 1: prompt_nano_usd_per_token" in told


def test_many_problems_are_counted_and_hostile_text_is_cut():
    told = refusal({f"{number}{'x' * 500}": 1 for number in range(50)})
    assert "and 41 more" in told
    assert len(told) < 1_000


def test_dates_are_read_and_shown_in_utc():
    assert iso_utc(unix_ms_of("2026-12-01", "at")) == "2026-12-01T00:00:00Z"
    assert iso_utc(unix_ms_of("2026-12-01T09:30:00+01:00", "at")) == "2026-12-01T08:30:00Z"
    assert iso_utc(0) == ""
    for text in ("soon", "", "2026-13-01", "01.12.2026"):
        with pytest.raises(InvalidRequest, match="is no date"):
            unix_ms_of(text, "at")


def test_a_proposal_is_a_draft_whatever_it_was_made_of():
    draft = as_draft(CARD, "bo", NOW, 0)
    assert (draft.state, draft.author, draft.published_by) == (CardState.DRAFT, "bo", "")
    assert draft.valid_from_unix_ms == 0
