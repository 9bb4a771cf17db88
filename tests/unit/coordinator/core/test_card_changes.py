"""The differences between two cards."""

from __future__ import annotations

from dataclasses import replace

from coordinator.core.card_changes import CardChange, changes_of
from coordinator.core.price_card import DEFAULT_TERMS, default_price_card
from protos.domain.resources import CardTerms

LINES = default_price_card()


def test_the_same_card_has_no_difference():
    assert changes_of((LINES, DEFAULT_TERMS), (LINES, DEFAULT_TERMS)) == []


def test_rates_and_percents_that_differ_are_told_in_the_order_of_the_card():
    dearer = (replace(LINES[0], prompt_nano_usd_per_token=27), *LINES[1:])
    terms = replace(DEFAULT_TERMS, residency_percent=12)
    found = changes_of((LINES, DEFAULT_TERMS), (dearer, terms))
    assert found == [
        CardChange("xs edge prompt", 24, 27),
        CardChange("surcharge of residency, percent", 10, 12),
    ]
    assert [one.percent for one in found] == ["+12.5 %", "+20.0 %"]


def test_lines_that_come_and_go_are_said_to():
    gone = changes_of((LINES, DEFAULT_TERMS), (LINES[1:], DEFAULT_TERMS))
    assert [one.percent for one in gone] == ["gone"] * 3
    new = changes_of(((), CardTerms(0)), (LINES[:1], CardTerms(0)))
    assert [(one.before, one.percent) for one in new] == [(None, "new")] * 3


def test_percents_are_rounded_to_a_tenth_either_way():
    assert CardChange("x", 3, 2).percent == "-33.3 %"
    assert CardChange("x", 3, 5).percent == "+66.7 %"
    assert CardChange("x", 0, 5).percent == ""
