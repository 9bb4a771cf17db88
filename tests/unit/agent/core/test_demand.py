"""Demand is a moving average of requests a minute, by deployment."""

from __future__ import annotations

import pytest

from agent.core.demand import MAX_DEPLOYMENTS, WINDOW_MS, Demand

MINUTE_MS = 60_000.0


def test_a_steady_rate_is_what_is_reported() -> None:
    demand = Demand()
    for second in range(3_600):
        demand.note("chat", second * 1_000.0)
    ((name, rate),) = demand.per_minute(3_600_000.0)
    assert name == "chat"
    assert rate == pytest.approx(60.0, rel=0.02)


def test_what_is_asked_for_no_longer_fades_to_nothing() -> None:
    demand = Demand()
    for _ in range(100):
        demand.note("chat", 0.0)
    rates = [demand.per_minute(minutes * MINUTE_MS) for minutes in (0, 5, 10, 600)]
    (_, first), (_, second), (_, third) = (one[0] for one in rates[:3])
    assert first > second > third
    assert rates[3] == []


def test_the_most_asked_for_comes_first() -> None:
    demand = Demand()
    for name, count in (("seldom", 1), ("often", 9), ("also", 1)):
        for _ in range(count):
            demand.note(name, 0.0)
    assert [name for name, _ in demand.per_minute(0.0)] == ["often", "also", "seldom"]


def test_deployments_are_bounded_and_the_one_asked_for_longest_ago_is_dropped() -> None:
    demand = Demand()
    demand.note("old", 0.0)
    demand.note("kept", 0.0)
    demand.note("kept", 1.0)
    for number in range(MAX_DEPLOYMENTS - 1):
        demand.note(f"d-{number}", WINDOW_MS)
    assert len(demand) == MAX_DEPLOYMENTS
    names = {name for name, _ in demand.per_minute(WINDOW_MS)}
    assert "old" not in names
    assert "kept" in names
