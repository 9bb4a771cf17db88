"""A load is predicted from cold starts of its node and way, and assumed before any was seen."""

from __future__ import annotations

import pytest

from protos.domain.load_term import (
    LEAST_LEFT_RATIO,
    MAX_KINDS,
    MAX_LOAD_MS,
    PRIOR_MS,
    SETTLED,
    WINDOW,
    ColdPath,
    ColdWay,
    LoadTerms,
    credible_load_ms,
    prior_load_ms,
)
from protos.domain.resources import Residency

MB = 1_000_000
ON_DISK = ColdWay(ColdPath.ADAPTER, Residency.DISK)
SWAP = ColdWay(ColdPath.SWAP, Residency.DISK)
START = ColdWay(ColdPath.ENGINE, Residency.DISK)
FAR = ColdWay(ColdPath.ADAPTER, Residency.ORIGIN)


@pytest.mark.parametrize("path", list(ColdPath))
def test_what_is_nearer_is_assumed_to_load_sooner(path):
    priors = [prior_load_ms(ColdWay(path, one), 900 * MB) for one in Residency]
    assert priors == sorted(priors)
    assert priors[0] == PRIOR_MS[path]


def test_the_paths_are_assumed_in_the_order_of_their_cost():
    priors = [prior_load_ms(ColdWay(path, Residency.DISK), MB) for path in ColdPath]
    assert priors == sorted(priors)


def test_without_a_cold_start_the_prior_is_predicted():
    term = LoadTerms().expect("n", FAR, 100 * MB)
    assert term.p99_ms == prior_load_ms(FAR, 100 * MB)
    assert 0.0 < term.p50_ms < term.p99_ms


def test_few_cold_starts_do_not_bring_a_prediction_below_what_is_assumed():
    loads = LoadTerms()
    for count in range(1, SETTLED + 1):
        loads.learn("n", ON_DISK, MB, 90.0)
        term = loads.expect("n", ON_DISK, MB)
        assert term.p50_ms == 90.0
        assert term.p99_ms == (90.0 if count == SETTLED else prior_load_ms(ON_DISK, MB))


def test_one_slow_cold_start_raises_the_prediction_at_once():
    loads = LoadTerms()
    loads.learn("n", ON_DISK, MB, 5_000.0)
    assert loads.expect("n", ON_DISK, MB).p99_ms == 5_000.0


def test_the_window_forgets_a_slow_one_in_time():
    loads = LoadTerms()
    for took_ms in [9_000.0] + WINDOW * [100.0]:
        loads.learn("n", ON_DISK, MB, took_ms)
    assert loads.expect("n", ON_DISK, MB).p99_ms == 100.0


def test_a_node_without_cold_starts_is_predicted_from_those_of_others():
    loads = LoadTerms()
    for _ in range(SETTLED):
        loads.learn("n", ON_DISK, MB, 80.0)
    assert loads.expect("other", ON_DISK, MB).p99_ms == 80.0
    for _ in range(SETTLED):
        loads.learn("other", ON_DISK, MB, 400.0)
    assert loads.expect("other", ON_DISK, MB).p99_ms == 400.0
    assert loads.expect("n", ON_DISK, MB).p99_ms == 80.0


def test_a_pull_grows_with_the_bytes_and_the_fixed_part_does_not():
    loads = LoadTerms()
    for _ in range(SETTLED):
        loads.learn("n", FAR, 100 * MB, 1_100.0, pull_ms=1_000.0)
    assert loads.expect("n", FAR, 100 * MB).p99_ms == 1_100.0
    assert loads.expect("n", FAR, 300 * MB).p99_ms == 3_100.0
    assert loads.expect("n", FAR, 0).p99_ms == 100.0


def test_what_a_swap_takes_beyond_its_fixed_part_grows_with_the_bytes():
    loads = LoadTerms()
    fixed_ms = PRIOR_MS[ColdPath.SWAP]
    for _ in range(SETTLED):
        loads.learn("n", SWAP, 1_000 * MB, fixed_ms + 500.0)
    assert loads.expect("n", SWAP, 4_000 * MB).p99_ms == fixed_ms + 2_000.0


def test_ways_are_learned_apart():
    loads = LoadTerms()
    for _ in range(SETTLED):
        loads.learn("n", ON_DISK, MB, 50.0)
    assert loads.expect("n", SWAP, MB).p99_ms == prior_load_ms(SWAP, MB)


def test_impossible_reports_are_cut():
    loads = LoadTerms()
    loads.learn("n", ON_DISK, -5, 1e18, pull_ms=-3.0)
    loads.learn("n", FAR, 0, 10.0, pull_ms=50.0)
    assert loads.expect("n", ON_DISK, MB).p99_ms == MAX_LOAD_MS
    assert loads.expect("n", FAR, 10**15).p99_ms == MAX_LOAD_MS


def test_kinds_are_bounded_and_those_of_all_nodes_outlive_single_ones():
    loads = LoadTerms()
    for number in range(2 * MAX_KINDS):
        loads.learn(f"n-{number}", ON_DISK, MB, 50.0)
    assert len(loads) == MAX_KINDS
    assert loads.expect("n-0", ON_DISK, MB).p99_ms == 50.0


def test_nodes_that_left_are_forgotten():
    loads = LoadTerms()
    loads.learn("n", ON_DISK, MB, 700.0)
    loads.learn("gone", ON_DISK, MB, 900.0)
    loads.forget_all_but(frozenset({"n"}))
    assert len(loads) == 2
    assert loads.expect("n", ON_DISK, MB).p99_ms == 700.0


@pytest.mark.parametrize(
    ("told_ms", "waited_ms", "warm_ms", "took_ms"),
    [
        (800.0, 900.0, 150.0, 800.0),
        (0.1, 30_000.0, 100.0, 29_900.0),
        (MAX_LOAD_MS, 900.0, 100.0, 900.0),
        (5.0, 20.0, 100.0, 5.0),
    ],
)
def test_a_load_took_what_is_told_as_far_as_the_wait_allows(told_ms, waited_ms, warm_ms, took_ms):
    assert credible_load_ms(told_ms, waited_ms, warm_ms) == took_ms


def test_a_load_that_begins_later_takes_longer_by_that():
    terms = LoadTerms()
    now, later = terms.expect("n", SWAP, MB), terms.expect("n", SWAP._replace(delay_ms=3_000.0), MB)
    assert later.p50_ms == now.p50_ms + 3_000.0
    assert later.p99_ms == now.p99_ms + 3_000.0


def test_a_load_in_progress_takes_what_is_left_of_it_and_never_nothing():
    terms = LoadTerms()
    whole, half = terms.expect("n", START, MB), terms.expect("n", START._replace(delay_ms=-9e3), MB)
    assert half.p99_ms == whole.p99_ms - 9_000.0
    over = terms.expect("n", START._replace(delay_ms=-600_000.0), MB)
    assert over.p50_ms == over.p99_ms == LEAST_LEFT_RATIO * whole.p99_ms


def test_what_is_learned_of_a_way_holds_whatever_its_delay():
    terms = LoadTerms()
    for _ in range(SETTLED):
        terms.learn("n", SWAP, MB, 200.0)
    later = terms.expect("n", SWAP._replace(delay_ms=50.0), MB)
    assert (later.p99_ms, later.learned) == (250.0, True)
