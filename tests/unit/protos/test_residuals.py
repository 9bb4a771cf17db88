"""A window's quantile: conformal, bounded, corrected."""

from __future__ import annotations

import random

from protos.domain.residuals import WINDOW, ResidualWindow


def filled(count, seed=1):
    window, chance = ResidualWindow(4.0), random.Random(seed)
    for index in range(count):
        residual = chance.gauss(0.0, 1.0)
        window.push(residual, float(index), missed=residual > window.quantile())
    return window


def test_it_begins_with_what_is_believed():
    assert ResidualWindow(4.0).quantile() == 4.0


def test_it_settles_near_the_law_it_sees_and_never_grows():
    window = filled(5 * WINDOW)
    assert len(window) == WINDOW
    assert 1.9 < window.quantile() < 3.5


def test_misses_raise_it_and_have_a_limit():
    window = filled(WINDOW)
    before = window.quantile()
    window.push(9.0, 1e6, missed=True, remember=False)
    assert window.quantile() > before
    for _ in range(1_000):
        window.push(9.0, 1e6, missed=True, remember=False)
    assert window.quantile() < 2.0 * before


def test_what_came_since_a_change_can_be_taken_back():
    window = filled(3 * WINDOW)
    for index in range(10):
        window.push(50.0, 1e6 + index, missed=True)
    assert window.quantile() > 40.0
    window.forget_since(1e6)
    assert len(window) == WINDOW - 10
    assert window.quantile() < 5.0


def test_the_first_ones_are_forgotten_early():
    window = ResidualWindow(4.0)
    for index in range(20):
        window.push(100.0, float(index), missed=False)
    for index in range(120):
        window.push(1.0, 100.0 + index, missed=False)
    assert window.quantile() < 2.0


def test_a_lone_outlier_among_few_is_an_exception():
    window = filled(60)
    window.push(1e9, 1e6, missed=True)
    assert window.quantile() < 40.0


def test_what_was_taken_off_because_of_one_outlier_comes_back_when_it_is_forgotten():
    window = filled(WINDOW)
    for number in range(8):
        window.push(20.0, 1e3 + number, missed=False)
    for number in range(WINDOW - 9):
        window.push(2.0, 1e4 + number, missed=False)
    assert window._correction < 0.0
    for number in range(8):
        window.push(2.0, 1e5 + number, missed=False)
    assert window.quantile() >= 1.9


def test_of_few_waits_the_largest_is_left_out():
    usual, waits = ResidualWindow(4.0), ResidualWindow(4.0, stretch=0.3, least_left_out=32)
    for number in range(60):
        residual = 20.0 if number == 30 else 2.0
        for window in (usual, waits):
            window.push(residual, float(number), missed=False)
    assert usual.quantile() > 20.0
    assert waits.quantile() < 4.0
