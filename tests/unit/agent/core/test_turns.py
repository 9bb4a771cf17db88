"""Accounts take turns, whoever has more waiting."""

from __future__ import annotations

from agent.core.turns import Turns


def order(turns: Turns, waiters: list[tuple[str, str]]) -> list[str]:
    """Serve all that wait, and return them in that order."""
    found = []
    left = list(waiters)
    while left:
        (first,) = [one for one in left if turns.is_first(*one)]
        left.remove(first)
        turns.leave(*first, served=True)
        found.append(first[1])
    return found


def joined(*waiters: tuple[str, str]) -> Turns:
    turns = Turns()
    for one in waiters:
        turns.join(*one)
    return turns


def test_accounts_take_turns_and_each_keeps_its_order():
    waiters = [("a", "1"), ("a", "2"), ("a", "3"), ("b", "4"), ("c", "5")]
    assert order(joined(*waiters), waiters) == ["1", "4", "5", "2", "3"]


def test_who_gives_up_takes_no_turn_of_its_account():
    turns = joined(("a", "1"), ("a", "2"), ("b", "3"))
    turns.leave("a", "1", served=False)
    assert turns.is_first("a", "2")
    assert len(turns) == 2


def test_joining_and_leaving_twice_change_nothing():
    turns = joined(("a", "1"), ("a", "1"))
    assert len(turns) == 1
    turns.leave("a", "1", served=True)
    turns.leave("a", "1", served=True)
    assert not len(turns)
    assert not turns.is_first("a", "1")
