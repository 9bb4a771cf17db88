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
    for _ in range(500):
        features = Load(chance.randint(1, 9_000), chance.randint(0, 9), 1.0).features()
        regime.learn(features, chance.expovariate(0.01), remember=True)
        for low, middle, high in zip(regime.p50, regime.p95, regime.p99, strict=True):
            assert 0.0 <= low <= middle <= high
