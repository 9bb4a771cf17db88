"""How many outcomes of one account a target learns from."""

from __future__ import annotations

from protos.domain.account_shares import (
    LEAST_OTHERS,
    MOST_ABANDONED,
    MOST_CENSORED,
    WINDOW,
    AccountShares,
)


def admitted(shares, account, count, *, censored=False, abandoned=False):
    return sum(shares.admit(account, censored=censored, abandoned=abandoned) for _ in range(count))


def test_who_is_alone_is_learned_from_in_full():
    shares = AccountShares()
    assert admitted(shares, "a", 500) == 500
    assert admitted(shares, "a", 50, censored=True) == 50
    assert len(shares) == WINDOW


def test_no_account_outweighs_all_others_together():
    shares = AccountShares()
    admitted(shares, "a", 9 * WINDOW // 10)
    admitted(shares, "b", WINDOW // 10)
    of_a = of_b = 0
    for _ in range(200):
        of_a += admitted(shares, "a", 9)
        of_b += admitted(shares, "b", 1)
    assert of_b == 200
    assert 0.9 * of_b < of_a < 1.3 * of_b


def test_too_few_others_to_be_users_take_nothing_from_an_account():
    shares = AccountShares()
    admitted(shares, "b", LEAST_OTHERS - 1)
    assert admitted(shares, "a", 50) == 50


def test_streams_that_a_client_abandoned_count_only_a_few_times_even_alone():
    shares = AccountShares()
    admitted(shares, "a", 100)
    assert admitted(shares, "a", 40, censored=True, abandoned=True) == MOST_ABANDONED
    assert admitted(shares, "b", 40, censored=True, abandoned=True) == MOST_ABANDONED
    admitted(shares, "a", WINDOW)
    assert admitted(shares, "a", 40, censored=True, abandoned=True) == MOST_ABANDONED


def test_cut_streams_of_one_account_are_too_few_for_a_change_where_others_are():
    shares = AccountShares()
    admitted(shares, "b", LEAST_OTHERS)
    assert admitted(shares, "a", 40, censored=True) == MOST_CENSORED


def test_accounts_that_come_and_go_leave_nothing_behind():
    shares = AccountShares()
    for number in range(1_000):
        admitted(shares, f"account-{number}", 2, censored=number % 3 == 0)
    assert len(shares) == WINDOW
    assert len(shares._counts) <= WINDOW
    assert len(shares._censored) <= WINDOW
    assert len(shares._credit) <= WINDOW
