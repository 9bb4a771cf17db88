"""Coefficients that are learned, never negative, and anchored."""

from __future__ import annotations

import random

import pytest

from protos.domain.regression import MOST_WALKED, Regression


def teach(regression, count, start, slope):
    """Outcomes of a line."""
    chance = random.Random(2)
    for _ in range(count):
        x = (1.0, chance.uniform(0.0, 4.0))
        regression.learn(x, start + slope * x[1], max(1.0, regression.estimate(x)))


def test_it_learns_a_law_that_its_prior_had_wrong():
    regression = Regression((30.0, 5.0), (1.0, 1.0), 600.0)
    teach(regression, 2_000, 10.0, 50.0)
    assert regression.coefficients == pytest.approx([10.0, 50.0], rel=0.1)


def test_a_coefficient_is_never_negative_and_an_unseen_one_stays():
    regression, chance = Regression((30.0, 5.0, 7.0), (1.0, 1.0, 1.0), 600.0), random.Random(2)
    for _ in range(500):
        x = (1.0, chance.uniform(0.0, 4.0), 0.0)
        regression.learn(x, max(1.0, 40.0 - 9.0 * x[1]), 20.0)
        assert min(regression.coefficients) >= 0.0
    assert regression.coefficients[2] == 7.0


def test_a_change_of_speed_scales_everything():
    regression = Regression((30.0, 5.0), (1.0, 1.0), 600.0)
    regression.rescale(2.0, 0.1)
    assert regression.coefficients == [60.0, 10.0]


def test_an_anchor_does_not_hold_what_turns_out_ten_times_slower():
    regression = Regression((3.0, 1.0), (1.0, 1.0), 600.0)
    teach(regression, 200, 100.0, 30.0)
    assert regression.coefficients == pytest.approx([100.0, 30.0], rel=0.2)


def test_what_is_expected_at_least_raises_a_belief():
    regression = Regression((3.0, 1.0), (1.0, 1.0), 600.0)
    regression.expect((2.0, 5.0))
    assert regression.coefficients == [3.0, 5.0]


def test_many_factors_do_not_take_a_prior_anywhere():
    regression = Regression((30.0, 5.0), (1.0, 1.0), 600.0)
    for _ in range(84):
        regression.rescale(0.6, 0.1)
    assert regression.prior == pytest.approx([30.0 / MOST_WALKED, 5.0 / MOST_WALKED])
    for _ in range(84):
        regression.rescale(1.8, 0.1)
    assert regression.prior == pytest.approx([30.0 * MOST_WALKED, 5.0 * MOST_WALKED])
