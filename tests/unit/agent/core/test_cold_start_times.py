"""Cold starts are summed up by path and residency, from the latest only."""

from __future__ import annotations

import pytest

from agent.core.cold_start import ColdPath, ColdStart
from agent.core.cold_start_times import MAX_KEPT, ColdStartTimes, quantile
from protos.domain.resources import Residency


def test_each_path_and_residency_is_summed_up_by_itself():
    times = ColdStartTimes()
    for took_ms in (10.0, 20.0, 30.0):
        times.add(ColdStart(ColdPath.ADAPTER, Residency.DISK, 500_000_000, took_ms))
    times.add(ColdStart(ColdPath.SWAP, Residency.PEER, 2_000_000_000, 800.0))
    adapter, swap = times.summaries()
    assert (adapter.path, adapter.count, adapter.p50_ms, adapter.p99_ms) == (
        ColdPath.ADAPTER,
        3,
        20.0,
        30.0,
    )
    assert adapter.ms_per_gb == pytest.approx(40.0)
    assert (swap.residency, swap.ms_per_gb) == (Residency.PEER, 400.0)


def test_only_the_latest_are_kept_and_all_are_counted():
    times = ColdStartTimes()
    for _ in range(MAX_KEPT):
        times.add(ColdStart(ColdPath.SWAP, Residency.DISK, 1, 1_000.0))
    for _ in range(MAX_KEPT):
        times.add(ColdStart(ColdPath.SWAP, Residency.DISK, 1, 1.0))
    (swap,) = times.summaries()
    assert (swap.count, swap.p99_ms) == (2 * MAX_KEPT, 1.0)


def test_what_has_no_bytes_has_no_time_for_a_gigabyte():
    times = ColdStartTimes()
    times.add(ColdStart(ColdPath.ENGINE, Residency.DISK, 0, 5.0))
    assert [one.ms_per_gb for one in times.summaries()] == [0.0]


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.001, 1.0)]
)
def test_a_quantile_is_one_of_the_values(share, expected):
    assert quantile([float(one) for one in range(1, 101)], share) == expected


def test_it_offers_metrics():
    times = ColdStartTimes()
    times.add(ColdStart(ColdPath.ENGINE, Residency.DISK, 1, 5.0))
    assert {one.name for one in times.samples(0.0)} == {
        "edgeforge_cold_starts",
        "edgeforge_cold_start_p50_ms",
        "edgeforge_cold_start_p99_ms",
    }
