"""Who is ahead of a request, and that more of anything never makes it sooner."""

from __future__ import annotations

import random

import pytest

from protos.domain.regimes import LEAST_MOVED, MOST_MOVED, Load, Place, Regime


def test_who_is_ahead():
    assert Load(10).place is Place.FREE
    assert Load(10, 3, 500.0).place is Place.BEHIND
    assert Load(10, 3, 500.0, 1).place is Place.FULL


def test_progress_counts_only_behind_a_backlog():
    assert Load(10, 3, 500.0, 0, 20.0).head_start_ms == 20.0
    assert Load(10, 3, 500.0, 1, 20.0).head_start_ms == 0.0


def test_more_never_comes_sooner_and_quantiles_are_in_order():
    regime, chance = Regime((20.0, 100.0, 1.0, 100.0, 0.0), 600.0), random.Random(1)
    for at_ms in range(500):
        features = Load(chance.randint(1, 9_000), chance.randint(0, 9), 1.0).features()
        regime.learn(features, chance.expovariate(0.01), at_ms - 100.0, at_ms, remember=True)
        for low, middle, high in zip(regime.p50, regime.p95, regime.p99, strict=True):
            assert 0.0 <= low <= middle <= high


def test_a_promise_is_judged_by_what_was_known_when_it_was_made():
    regime, x = Regime((20.0, 0.0, 0.0, 0.0, 0.0), 600.0), Load(0.0).features()
    before = regime.residuals.misses
    for at_ms in range(20):
        regime.learn(x, 100.0, 0.0, 1_000.0 + at_ms, remember=True)
    assert regime.p99[0] > 100.0
    assert regime.residuals.misses - before == 20


def test_an_unseen_regime_expects_no_less_than_a_lighter_one():
    regime = Regime((20.0, 1.0, 0.0, 5.0, 0.0), 600.0)
    regime.expect((40.0, 0.5, 0.0, 0.0, 0.0))
    assert regime.p50 == (40.0, 1.0, 0.0, 5.0, 0.0)
    regime.learn(Load(0.0).features(), 10.0, 0.0, 10.0, remember=True)
    learned = regime.p50
    regime.expect((90.0, 9.0, 9.0, 9.0, 9.0))
    assert regime.p50 == learned


def test_what_was_expected_of_an_unseen_regime_goes_back_with_what_made_it_so():
    regime = Regime((20.0, 1.0, 0.0, 5.0, 0.0), 600.0)
    regime.expect((400.0, 0.5, 0.0, 0.0, 0.0))
    regime.expect((30.0, 0.5, 0.0, 0.0, 0.0))
    assert regime.p50 == (30.0, 1.0, 0.0, 5.0, 0.0)


def seen(count=40):
    regime, x = Regime((20.0, 0.0, 0.0, 0.0, 10.0), place=Place.FULL), (1.0, 0.5, 4.0, 0.0, 8.0)
    for at_ms in range(count):
        regime.learn(x, 100.0 + at_ms % 7, at_ms * 1e3, at_ms * 1e3 + 100.0, remember=True)
    return regime, x


def test_what_others_saw_moves_a_regime_within_bounds_and_never_adds_up():
    regime, x = seen()
    centre_ms, promised_ms = regime.centre_ms(x), regime.promised_ms(x)
    for number in range(84):
        regime.move((0.1, 30.0)[number % 2] if number % 3 else 0.2, 1e6 + number)
        assert regime.centre_ms(x) / centre_ms * 1.001 >= LEAST_MOVED
        assert regime.centre_ms(x) / centre_ms <= MOST_MOVED * 1.001
    regime.move(1.0, 2e6)
    assert regime.centre_ms(x) == pytest.approx(centre_ms)
    assert regime.promised_ms(x) == pytest.approx(promised_ms)


def test_the_first_outcome_after_a_move_is_learned_from_where_it_led():
    regime, x = seen()
    before_ms = regime.centre_ms(x)
    regime.move(1.7, 1e6)
    regime.learn(x, 1.7 * before_ms, 2e6, 2e6 + 200.0, remember=True)
    assert regime.centre_ms(x) == pytest.approx(1.7 * before_ms, rel=0.05)


def test_errors_of_waits_that_were_promised_before_any_was_learned_are_not_remembered():
    regime, x = Regime((20.0, 0.0, 0.0, 0.0, 1.0), place=Place.FULL), (1.0, 0.5, 4.0, 0.0, 8.0)
    for at_ms in range(100):
        regime.learn(x, 5_000.0, 0.0, 1_000.0 + at_ms, remember=True)
    assert len(regime.residuals) == 0
