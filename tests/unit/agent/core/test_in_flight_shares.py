"""One account cannot take all requests that may be in progress."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.in_flight_shares import InFlightShares
from protos.domain.errors import Overloaded


def entered(shares: InFlightShares, account: str, count: int) -> int:
    """Return how many of ``count`` requests were let in."""
    for number in range(count):
        try:
            shares.enter(account)
        except Overloaded:
            return number
    return count


def test_one_account_alone_may_have_nearly_all_and_others_still_find_room() -> None:
    shares = InFlightShares(900)
    assert entered(shares, "a", 10_000) == 800
    assert entered(shares, "b", 10_000) > 80
    assert entered(shares, "c", 10_000) >= 8


def test_what_ends_makes_room() -> None:
    shares = InFlightShares(9)
    assert entered(shares, "a", 20) == 8
    shares.leave("a")
    assert entered(shares, "a", 20) == 1


def test_the_limit_holds_for_all_together() -> None:
    shares = InFlightShares(3)
    assert [entered(shares, account, 1) for account in "abcd"] == [1, 1, 1, 0]


@given(st.integers(1, 50), st.lists(st.tuples(st.booleans(), st.sampled_from("abc"))))
def test_counts_are_right_and_within_the_limit(limit: int, steps: list[tuple[bool, str]]) -> None:
    shares, inside = InFlightShares(limit), dict.fromkeys("abc", 0)
    for enters, account in steps:
        if enters:
            inside[account] += entered(shares, account, 1)
        elif inside[account]:
            shares.leave(account)
            inside[account] -= 1
        assert shares.total == sum(inside.values()) <= limit


def test_an_account_without_requests_is_not_remembered() -> None:
    shares = InFlightShares(10)
    for number in range(100):
        shares.enter(f"a{number}")
        shares.leave(f"a{number}")
    with pytest.raises(KeyError):
        shares.leave("a1")
