"""What a POP has cost over a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.pop_costs import (
    HOUR_MS,
    MAX_CHANGES,
    CostChange,
    PopCost,
    cost_between,
    with_change,
)

T0 = 1_790_000_000_000


def test_a_cost_counts_by_the_hour_and_before_it_was_written_down():
    cost = with_change(None, "GRU", CostChange(T0, 10))
    assert cost_between(cost, T0 - 2 * HOUR_MS, T0 + 3 * HOUR_MS) == 50


def test_a_changed_cost_counts_from_its_change():
    cost = with_change(
        with_change(None, "GRU", CostChange(T0, 10)), "GRU", CostChange(T0 + HOUR_MS, 30)
    )
    assert cost_between(cost, T0, T0 + 2 * HOUR_MS) == 10 + 30
    assert cost_between(cost, T0 + HOUR_MS, T0 + 2 * HOUR_MS) == 30
    assert cost_between(cost, T0 - HOUR_MS, T0) == 10
    assert cost.now.nano_usd_per_hour == 30


def test_a_part_of_an_hour_is_rounded_half_up():
    cost = PopCost("GRU", (CostChange(T0, 3),))
    assert cost_between(cost, T0, T0 + HOUR_MS // 2) == 2
    assert cost_between(cost, T0, T0) == 0


def test_a_cost_written_down_by_a_clock_ahead_is_replaced():
    cost = with_change(None, "GRU", CostChange(T0 + 10 * HOUR_MS, 99))
    cost = with_change(cost, "GRU", CostChange(T0, 10))
    assert cost.changes == (CostChange(T0, 10),)


def test_the_oldest_changes_make_room():
    cost = None
    for number in range(MAX_CHANGES + 5):
        cost = with_change(cost, "GRU", CostChange(T0 + number, number))
    assert len(cost.changes) == MAX_CHANGES
    assert cost.now.nano_usd_per_hour == MAX_CHANGES + 4


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 1_000)), min_size=1, max_size=6),
    st.integers(-(10**6), 2 * 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)
def test_the_cost_of_a_time_is_that_of_its_parts(changes, began, first, second):
    cost = None
    for since, rate in sorted(changes):
        cost = with_change(cost, "GRU", CostChange(since, rate * HOUR_MS))
    middle, end = began + first, began + first + second
    whole = cost_between(cost, began, end)
    assert whole == cost_between(cost, began, middle) + cost_between(cost, middle, end)
