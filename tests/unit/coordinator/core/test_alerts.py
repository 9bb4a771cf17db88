"""Thresholds of spending, each once a period."""

from __future__ import annotations

from coordinator.core import alerts
from coordinator.core.alerts import Spending


def spending(spent: int, limit: int = 1_000) -> Spending:
    return Spending("cap", "2026-02", spent, limit)


def test_each_threshold_is_crossed_exactly():
    assert alerts.crossed(spending(499), ()) == []
    assert alerts.crossed(spending(500), ()) == [50]
    assert alerts.crossed(spending(799), (50,)) == []
    assert alerts.crossed(spending(1_200), (50,)) == [80, 100]


def test_what_was_told_is_not_told_again():
    assert alerts.crossed(spending(1_200), (50, 80, 100)) == []


def test_without_a_limit_there_is_no_alert():
    assert alerts.crossed(spending(5, limit=0), ()) == []


def test_deliveries_are_tried_again_later_each_time_and_given_up():
    times = [alerts.retry_unix_ms(0, n) for n in range(1, len(alerts.RETRY_S) + 2)]
    assert times[-1] is None
    assert times[:-1] == sorted(one for one in times[:-1] if one is not None)
