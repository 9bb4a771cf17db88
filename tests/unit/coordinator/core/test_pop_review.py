"""Which POPs are proposed for retirement, over months of days."""

from __future__ import annotations

import pytest

from coordinator.core.pop_costs import CostChange, PopCost
from coordinator.core.pop_review import DAY_MS, DayFill, Verdict, review_pops
from protos.domain.resources import Pop, Tier

FROM = 20_000 * DAY_MS
DAYS = 60
UNTIL = FROM + DAYS * DAY_MS
GRU = Pop("GRU", Tier.EDGE, "BR", "São Paulo", 0.0, 0.0)


def days(*ratios: float, samples: int = 1_440) -> list[DayFill]:
    return [DayFill(FROM + number * DAY_MS, samples, ratio) for number, ratio in enumerate(ratios)]


def review(told, *, revenue=0, cost=None):
    costs = {} if cost is None else {"GRU": PopCost("GRU", (CostChange(FROM, cost),))}
    (found,) = review_pops(
        {"GRU": GRU}, {"GRU": told}, {"GRU": revenue}, costs, from_unix_ms=FROM, until_unix_ms=UNTIL
    )
    return found


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        (days(*[0.2] * 60), Verdict.RETIRE),
        (days(*[0.499] * 60), Verdict.RETIRE),
        (days(*[0.2] * 59, 0.5), Verdict.KEEP),
        (days(0.9, *[0.2] * 59), Verdict.KEEP),
        (days(*[0.2] * 54), Verdict.RETIRE),  # nine of ten days seen
        (days(*[0.2] * 53), Verdict.TOO_EARLY),
        ([], Verdict.TOO_EARLY),
        (days(*[0.2] * 60, samples=100), Verdict.TOO_EARLY),  # minutes of a day, not the day
    ],
)
def test_a_pop_is_proposed_when_no_day_of_sixty_reached_half(told, verdict):
    assert review(told).verdict is verdict


def test_days_without_a_sample_are_not_idle_days():
    found = review([])
    assert (found.utilisation_ratio, found.days_seen) == (None, 0)
    assert "never seen" in found.why


def test_days_of_another_time_do_not_count():
    early = [DayFill(FROM - (number + 1) * DAY_MS, 1_440, 0.1) for number in range(200)]
    assert review(early).verdict is Verdict.TOO_EARLY


def test_margin_is_revenue_less_cost():
    found = review(days(*[0.2] * 60), revenue=5_000, cost=3)
    assert (found.cost_nano_usd, found.margin_nano_usd) == (60 * 24 * 3, 5_000 - 4_320)
    unknown = review(days(*[0.2] * 60), revenue=5_000)
    assert (unknown.has_cost, unknown.margin_nano_usd) == (False, 5_000)


def test_the_row_of_days_under_half_ends_at_the_last_busy_one():
    assert review(days(0.2, 0.2, 0.9, 0.1, 0.1)).days_under == 2
    assert review(days(0.9)).days_under == 0


def test_pops_to_retire_come_first_the_worst_margin_first():
    pops = {name: Pop(name, Tier.EDGE, "BR", name, 0.0, 0.0) for name in ("A", "B", "C")}
    idle, busy = days(*[0.1] * 60), days(*[0.8] * 60)
    found = review_pops(
        pops,
        {"A": busy, "B": idle, "C": idle},
        {"B": 900, "C": 100},
        {},
        from_unix_ms=FROM,
        until_unix_ms=UNTIL,
    )
    assert [one.pop_id for one in found] == ["C", "B", "A"]
