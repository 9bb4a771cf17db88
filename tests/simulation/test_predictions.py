"""A P99 is a P99 on traffic that nobody tuned it on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protos.domain.regimes import Place
from tests.support.predictor_replay import CASES, Caching, Replay
from tests.support.synthetic_traces import SCENARIOS

LEAST_COVERAGE, MOST_COVERAGE, ENOUGH_OUTCOMES = 0.985, 0.997, 5_000
FAST = CASES[0]


def free_coverage(scenario, seed=5):
    """The share of the requests that met nobody which came within their P99."""
    replay = Replay(
        FAST, scenario.lines(seed), seed, scenario.slowness, scenario.caching, rivals={}
    )
    sent = [each for each in replay.run() if each.load.place is Place.FREE]
    assert len(sent) >= ENOUGH_OUTCOMES
    return 1.0 - sum(each.missed("edgeforge") for each in sent) / len(sent)


@pytest.mark.parametrize("name", ["bimodal", "heavy_tail", "slower_by_3", "tiny"])
def test_promises_are_kept_by_so_many_as_they_say(name):
    scenario = replace(SCENARIOS[name], requests=8_000)
    assert LEAST_COVERAGE <= free_coverage(scenario) <= MOST_COVERAGE


def test_promises_hold_though_what_is_cached_is_known_badly():
    scenario = replace(SCENARIOS["cached"], requests=8_000)
    for caching in (Caching(0.7, 0.15, 0.03), Caching(0.7, 0.4, 0.15)):
        coverage = free_coverage(replace(scenario, caching=caching))
        assert LEAST_COVERAGE <= coverage <= MOST_COVERAGE
