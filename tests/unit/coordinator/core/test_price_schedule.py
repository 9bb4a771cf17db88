"""When a card takes effect, by clocks that jump."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.price_card import DEFAULT_TERMS, default_price_card, first_card, numbered
from coordinator.core.price_schedule import (
    JUMP_MS,
    SETTLE_MS,
    SettledClock,
    card_at,
    due_card,
    upcoming_cards,
    version_in_force,
)
from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.price_card import CardState, PriceCard

NOW = 1_790_000_000_000
HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS


def card(version: int, valid_from: int, state: CardState = CardState.PUBLISHED) -> PriceCard:
    return replace(numbered(first_card("ana", NOW), version, valid_from), state=state)


def test_a_steady_clock_is_believed():
    clock = SettledClock(NOW, 5.0)
    assert clock.now_unix_ms(NOW + 1_000, 1_005.0) == NOW + 1_000


def test_a_clock_that_is_corrected_little_by_little_is_believed():
    clock = SettledClock(NOW, 0.0)
    for second in range(1, 100):  # it gains a tenth
        assert clock.now_unix_ms(NOW + second * 1_100, second * 1_000.0) == NOW + second * 1_100


def test_a_clock_a_year_ahead_puts_no_card_in_force_early():
    clock = SettledClock(NOW, 0.0)
    coming = {2: card(2, NOW + HOUR_MS)}
    seen = clock.now_unix_ms(NOW + YEAR_MS, 1_000.0)
    assert seen == NOW + 1_000
    assert due_card(coming, 1, seen) is None
    assert clock.now_unix_ms(NOW + 2_000, 2_000.0) == NOW + 2_000, "it was set right"


def test_a_clock_an_hour_back_puts_a_card_in_force_late_never_early():
    clock = SettledClock(NOW, 0.0)
    assert clock.now_unix_ms(NOW - HOUR_MS + 1_000, 1_000.0) == NOW - HOUR_MS + 1_000


def test_a_jump_that_lasts_is_believed_in_the_end():
    clock = SettledClock(NOW, 0.0)
    clock.now_unix_ms(NOW + YEAR_MS, 0.0)
    just_before = clock.now_unix_ms(NOW + YEAR_MS + SETTLE_MS - 1, SETTLE_MS - 1.0)
    assert just_before == NOW + SETTLE_MS - 1
    assert clock.now_unix_ms(NOW + YEAR_MS + SETTLE_MS, SETTLE_MS) == NOW + YEAR_MS + SETTLE_MS


def test_a_clock_that_jumps_again_settles_anew():
    clock = SettledClock(NOW, 0.0)
    clock.now_unix_ms(NOW + YEAR_MS, 0.0)
    half = SETTLE_MS / 2
    clock.now_unix_ms(NOW + 2 * YEAR_MS, half)
    assert clock.now_unix_ms(NOW + 2 * YEAR_MS + SETTLE_MS, SETTLE_MS) == NOW + SETTLE_MS


@given(st.lists(st.tuples(st.integers(0, 60_000), st.integers(-YEAR_MS, YEAR_MS)), max_size=30))
def test_what_is_shown_is_never_ahead_of_the_wall_clock(steps):
    clock, mono_ms = SettledClock(NOW, 0.0), 0
    for passed_ms, off_ms in steps:
        mono_ms += passed_ms
        wall_ms = NOW + mono_ms + off_ms
        assert clock.now_unix_ms(wall_ms, float(mono_ms)) <= wall_ms + JUMP_MS


def test_the_newest_due_card_takes_effect_and_an_older_one_never_again():
    cards = {2: card(2, NOW - 2), 3: card(3, NOW - 1), 4: card(4, NOW + 1)}
    assert due_card(cards, 1, NOW) == cards[3]
    assert due_card(cards, 3, NOW) is None
    assert due_card(cards, 3, NOW + 1) == cards[4]
    assert due_card({2: card(2, NOW, CardState.DRAFT)}, 1, NOW) is None


def test_of_two_cards_of_one_moment_the_later_version_is_in_force():
    cards = {2: card(2, NOW), 3: card(3, NOW)}
    assert due_card(cards, 1, NOW) == cards[3]
    assert [one.version for one in upcoming_cards(cards.values(), 1)] == [2, 3]


def test_the_card_of_a_moment_is_found_among_superseded_ones():
    cards = [card(1, 0, CardState.SUPERSEDED), card(2, NOW), card(3, NOW + 9, CardState.DRAFT)]
    assert card_at(cards, NOW - 1) == cards[0]
    assert card_at(cards, NOW + 10) == cards[1]
    assert card_at(cards[1:], NOW - 1) is None


def test_the_version_in_force_is_that_of_the_rows():
    assert version_in_force(FleetView()) == 0
    lines = with_changes(FleetView(), (), default_price_card())
    assert version_in_force(lines) == 1
    newer = with_changes(lines, (), [replace(DEFAULT_TERMS, version=4)])
    assert version_in_force(newer) == 4
