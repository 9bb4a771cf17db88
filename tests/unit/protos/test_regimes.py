"""Who is ahead of a request, and that more of anything never makes it sooner."""

from __future__ import annotations

import random

from protos.domain.regimes import Load, Place, Regime


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
