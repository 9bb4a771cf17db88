"""Which price cards a request of some moment may have."""

from __future__ import annotations

import pytest

from coordinator.core.card_times import OUTLIVES_MS, PRECEDES_MS, CardTimes

FIRST, SECOND, THIRD = 10**12, 2 * 10**12, 3 * 10**12


@pytest.fixture
def cards() -> CardTimes:
    times = CardTimes()
    for version, began in ((3, THIRD), (1, FIRST), (2, SECOND)):
        times.add(version, began)
    return times


def test_a_card_is_had_from_its_date_until_no_agent_can_have_it_any_more(cards: CardTimes) -> None:
    for at in (FIRST - PRECEDES_MS, FIRST, SECOND, SECOND + OUTLIVES_MS):
        assert cards.problem(1, at) == ""
    assert "long ended" in cards.problem(1, SECOND + OUTLIVES_MS + 1)
    assert "not in force yet" in cards.problem(2, SECOND - PRECEDES_MS - 1)
    assert cards.problem(3, 10 * THIRD) == ""


def test_a_card_without_a_date_has_no_start_and_the_next_one_ends_it(cards: CardTimes) -> None:
    cards.add(0, 0)
    assert cards.problem(0, 1) == ""
    assert "long ended" in cards.problem(0, FIRST + OUTLIVES_MS + 1)


def test_a_later_card_ends_one_that_was_asked_about_before() -> None:
    times = CardTimes()
    times.add(1, FIRST)
    assert times.problem(1, 10 * THIRD) == ""
    times.add(2, SECOND)
    times.add(2, 1)  # a version has one date
    assert "long ended" in times.problem(1, 10 * THIRD)
    assert times.problem(1, SECOND) == ""
