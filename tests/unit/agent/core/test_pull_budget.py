"""What all pulls of a node share: memory and bandwidth."""

from __future__ import annotations

from agent.core.pull_budget import PullBudget


def test_so_many_pieces_are_in_memory_and_no_more() -> None:
    budget = PullBudget(0, 0.0, max_pieces=2)
    assert budget.take(1, 0.0)
    assert budget.take(1, 0.0)
    assert not budget.take(1, 0.0)
    budget.give_back()
    assert budget.take(1, 0.0)


def test_bandwidth_is_waited_for_and_takes_no_memory_meanwhile() -> None:
    budget = PullBudget(8 * 1024**2, 0.0, max_pieces=2)
    assert budget.take(8 * 1024**2, 0.0)
    assert not budget.take(4 * 1024**2, 0.0)
    assert budget.in_flight == 1
    assert budget.wait_ms(4 * 1024**2, 0.0) == 500.0
    assert budget.take(4 * 1024**2, 500.0)
