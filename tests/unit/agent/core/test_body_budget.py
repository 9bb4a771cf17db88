"""Bytes of bodies in memory: one limit, and shares that leave room for the next owner."""

from __future__ import annotations

import pytest

from agent.core.body_budget import BodyBudget, node_owner

LIMIT = 1_200
MIB = 1024 * 1024


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


NODE_A, NODE_B = (node_owner("gru-1", account, {"a", "b"}) for account in "ab")


def test_one_accounts_bodies_do_not_take_the_share_of_the_node_that_asks_for_others_too() -> None:
    budget = BodyBudget(512 * MIB)
    while budget.take(NODE_A, 8 * MIB):
        pass
    assert budget.used_bytes >= 160 * MIB
    assert budget.take(NODE_B, 1 * MIB)
    assert budget.take(node_owner("iad-1", "a", {"a"}), 64 * MIB)


def test_a_node_gets_no_more_by_asking_for_many_accounts() -> None:
    budget = BodyBudget(512 * MIB)
    accounts = {str(number) for number in range(1_000)}
    for account in accounts:
        while budget.take(node_owner("gru-1", account, accounts), MIB):
            pass
    assert budget.used_bytes <= 256 * MIB
    assert budget.take(node_owner("iad-1", "0", accounts), 64 * MIB)


def test_an_unknown_account_is_no_owner_of_its_own() -> None:
    assert node_owner("gru-1", "x", {"a"}) == node_owner("gru-1", "y", {"a"})


def test_every_byte_of_a_nodes_accounts_is_given_back() -> None:
    budget = BodyBudget(512 * MIB)
    for owner in (NODE_A, NODE_B, NODE_A):
        assert budget.take(owner, MIB)
    for owner in (NODE_A, NODE_B, NODE_A):
        budget.give_back(owner, MIB)
    assert budget.used_bytes == 0
    assert budget._by_owner == {}
