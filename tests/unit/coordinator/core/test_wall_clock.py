"""When the wall clock is believed: jumps, corrections, restarts."""

from __future__ import annotations

from coordinator.core.wall_clock import ABSENCE_MS, MAX_JUMP_MS, SETTLE_MS, WallClock

START = 1_800_000_000_000
HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS


def test_clocks_in_step_are_believed():
    clock = WallClock()
    assert all(clock.look(START + ms, ms) for ms in range(0, HOUR_MS, 60_000))


def test_a_year_forward_is_never_believed_without_an_operator():
    clock = WallClock()
    assert clock.look(START, 0)
    for hours in range(1, 24 * 30):
        ms = hours * HOUR_MS
        assert not clock.look(START + YEAR_MS + ms, ms)
    assert clock.off_ms == YEAR_MS
    clock.confirm(START + YEAR_MS, 24 * 30 * HOUR_MS)
    assert clock.look(START + YEAR_MS + HOUR_MS, 24 * 30 * HOUR_MS + HOUR_MS)


def test_a_clock_that_is_right_again_is_believed_at_once():
    clock = WallClock()
    assert clock.look(START, 0)
    assert not clock.look(START + YEAR_MS, 1_000)
    assert clock.look(START + 2_000, 2_000)


def test_an_hour_back_and_forward_again_loses_nothing():
    clock = WallClock()
    assert clock.look(START, 0)
    assert not clock.look(START - HOUR_MS + 60_000, 60_000)
    assert clock.look(START + 120_000, 120_000)


def test_a_small_jump_is_believed_after_it_was_steady():
    clock = WallClock()
    assert clock.look(START, 0)
    jump = MAX_JUMP_MS - 1
    assert not clock.look(START + jump, 0)
    assert not clock.look(START + jump + SETTLE_MS - 1, SETTLE_MS - 1)
    assert clock.look(START + jump + SETTLE_MS, SETTLE_MS)


def test_a_clock_that_keeps_jumping_is_not_steady():
    clock = WallClock()
    assert clock.look(START, 0)
    for step in range(1, 100):
        ms = step * HOUR_MS
        assert not clock.look(START + ms + step * 600_000, ms)


def test_an_absence_is_believed_up_to_a_limit_and_a_longer_one_is_not():
    assert WallClock(START).look(START + ABSENCE_MS, 5)
    long_away = WallClock(START)
    assert not long_away.look(START + ABSENCE_MS + 1, 5)
    assert not long_away.look(START + ABSENCE_MS + 1 + SETTLE_MS, 5 + SETTLE_MS)


def test_a_restart_with_a_clock_set_back_waits():
    clock = WallClock(START)
    assert not clock.look(START - HOUR_MS, 0)
    assert clock.look(START - HOUR_MS + SETTLE_MS, SETTLE_MS)


def test_an_absence_is_believed_once_a_clock_that_was_wrong_at_the_start_is_right():
    clock = WallClock(START)
    day_ms = 24 * HOUR_MS
    assert not clock.look(START + 3 * day_ms + YEAR_MS, 5)
    assert clock.look(START + 3 * day_ms + HOUR_MS, 5 + HOUR_MS)
    assert not WallClock(START).look(START + ABSENCE_MS + HOUR_MS, 5)
    late = WallClock(START)
    assert not late.look(START - HOUR_MS, 5)
    assert not late.look(START + ABSENCE_MS + 2 * HOUR_MS, 5 + HOUR_MS)


def test_the_time_to_act_by_has_no_jumps():
    clock = WallClock()
    assert clock.estimate(START, 0) == START, "nothing is known yet"
    assert clock.look(START, 0)
    assert clock.estimate(START + 61_000, 60_000) == START + 61_000
    assert clock.estimate(START + YEAR_MS, 60_000) == START + 60_000
    assert clock.estimate(START - HOUR_MS, 60_000) == START + 60_000


def test_the_time_to_act_by_after_a_restart_is_the_wall_clocks_unless_it_was_long():
    clock = WallClock(START)
    assert clock.estimate(START + ABSENCE_MS, 5) == START + ABSENCE_MS
    assert clock.estimate(START + YEAR_MS, 5) == START
