"""A P99 is a P99 on traffic that nobody tuned it on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protos.domain.regimes import Place
from tests.support.predictor_replay import CASES, Caching, Replay
from tests.support.synthetic_traces import SCENARIOS

LEAST_COVERAGE, MOST_COVERAGE, ENOUGH_OUTCOMES = 0.985, 0.997, 5_000
#: Of an engine that keeps its speed.
MOST_FALSE_CHANGES_PER_1000 = 1.0
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


def test_an_engine_that_was_not_seen_full_for_an_hour_does_not_seem_free():
    """Changes of speed seen at a free engine used to multiply what was known of a full one."""
    scenario = SCENARIOS["rare_crowds"]
    for seed in (1, 2):
        replay = Replay(
            CASES[1], scenario.lines(seed), seed, scenario.slowness, scenario.caching, rivals={}
        )
        full = [each for each in replay.run() if each.load.place is Place.FULL]
        assert len(full) >= 100
        assert replay.target.changes >= 20, "the trace must have what looks like changes of speed"
        kept = sum(not each.missed("edgeforge") for each in full)
        assert kept / len(full) >= 0.95
        for each in full:
            assert each.guesses["edgeforge"].ttft_ms_p50 > 0.05 * each.took_ms


@pytest.mark.parametrize("name", ["crowds_steady", "heavy_tail"])
def test_heavy_tailed_prompts_in_crowds_are_hardly_ever_a_change_of_speed(name):
    scenario = replace(SCENARIOS[name], slowness=lambda *_: 1.0, requests=6_000)
    for case in CASES:
        replay = Replay(case, scenario.lines(5), 5, scenario.slowness, rivals={})
        outcomes = len(replay.run())
        assert replay.target.changes <= MOST_FALSE_CHANGES_PER_1000 * outcomes / 1_000
