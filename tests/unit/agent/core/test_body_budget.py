"""Bytes of bodies in memory: one limit, and shares that leave room for the next owner."""

from __future__ import annotations

import pytest

from agent.core.body_budget import BodyBudget

LIMIT = 1_200


def most_of(budget: BodyBudget, owner: str) -> int:
    """Take bytes for ``owner`` one by one until they are refused; return how many."""
    taken = 0
    while budget.take(owner, 1):
        taken += 1
    return taken


def test_one_owner_alone_gets_half_and_a_second_one_still_gets_its_part() -> None:
    budget = BodyBudget(LIMIT)
    assert most_of(budget, "acme") == LIMIT // 2
    assert most_of(budget, "other") == LIMIT // 4
    assert most_of(budget, "third") == LIMIT // 8


def test_bodies_of_all_together_never_exceed_the_limit() -> None:
    budget = BodyBudget(LIMIT)
    for number in range(50):
        most_of(budget, str(number))
    assert budget.used_bytes <= LIMIT
    assert budget.refused == 50


def test_what_is_given_back_can_be_taken_again_and_nothing_is_left_behind() -> None:
    budget = BodyBudget(LIMIT)
    for owner in ("acme", "other"):
        assert budget.take(owner, 300)
        assert budget.take(owner, 1)
    for owner in ("acme", "other"):
        budget.give_back(owner, 1)
        budget.give_back(owner, 300)
    assert budget.used_bytes == 0
    assert most_of(budget, "acme") == LIMIT // 2


@pytest.mark.parametrize("size", [601, 10_000])
def test_a_body_over_the_share_is_refused_and_counted(size: int) -> None:
    budget = BodyBudget(LIMIT)
    assert not budget.take("acme", size)
    assert budget.used_bytes == 0
    assert [one.value for one in budget.samples(0.0)] == [0.0, 1]
