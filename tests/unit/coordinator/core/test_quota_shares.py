"""Calls of agents for all their quotas."""

from __future__ import annotations

import pytest

from coordinator.core import quota_shares
from coordinator.core.quota_shares import QuotaShares
from protos.domain.errors import Conflict, Overloaded
from protos.domain.quota import (
    LEASE_MARGIN_MS,
    LEASE_MS,
    MAX_AMOUNT,
    LeaseAnswer,
    LeaseAsk,
    LeaseCall,
    QuotaKind,
    QuotaName,
)

SEQUENCES = QuotaName(QuotaKind.SEQUENCES, "acme")
MONEY = QuotaName(QuotaKind.MONEY, "acme")


def ask(shares: QuotaShares, node: str, seq: int, *asks: LeaseAsk, **given: object) -> LeaseAnswer:
    capacities = {SEQUENCES: 10, MONEY: given.get("money", 1_000)}
    return shares.handle(
        node,
        LeaseCall(str(given.get("boot", "b")), seq, asks),
        lambda name: capacities.get(name),  # type: ignore[arg-type, return-value]
        lambda name: bool(given.get("was_there")),
        float(given.get("now_ms", 0.0)),  # type: ignore[arg-type]
    )


def wanted(name: QuotaName, want: int) -> LeaseAsk:
    return LeaseAsk(name, 0, 0, 0, want, want)


def test_one_call_asks_for_many_quotas_and_what_does_not_exist_is_left_out() -> None:
    shares = QuotaShares(7, 0.0)
    unknown = QuotaName(QuotaKind.SEQUENCES, "nosuch")
    answer = ask(shares, "n1", 1, wanted(SEQUENCES, 4), wanted(unknown, 4), wanted(MONEY, 100))
    assert [grant.name for grant in answer.grants] == [SEQUENCES, MONEY]
    assert (answer.epoch, answer.seq) == (7, 1)
    assert answer.renew_ms <= LEASE_MS / 3
    assert shares.held(SEQUENCES) == 4
    assert shares.held(unknown) == 0


def test_a_call_that_a_later_one_has_overtaken_or_that_comes_twice_changes_nothing() -> None:
    shares = QuotaShares(1, 0.0)
    ask(shares, "n1", 5, wanted(SEQUENCES, 4))
    for seq in (5, 4):
        with pytest.raises(Conflict):
            ask(shares, "n1", seq, wanted(SEQUENCES, 10))
    assert shares.held(SEQUENCES) == 4
    ask(shares, "n1", 1, wanted(SEQUENCES, 2), boot="another run")
    assert shares.held(SEQUENCES) == 6


def test_nothing_new_is_granted_of_what_was_there_before_the_start_until_leases_ended() -> None:
    shares = QuotaShares(1, 0.0)
    answer = ask(shares, "n1", 1, wanted(SEQUENCES, 4), was_there=True)
    assert answer.grants[0].granted == 0
    assert answer.settling_ms == LEASE_MS + LEASE_MARGIN_MS
    assert not shares.is_settled(LEASE_MS)
    later_ms = LEASE_MS + LEASE_MARGIN_MS
    answer = ask(shares, "n1", 2, wanted(SEQUENCES, 4), was_there=True, now_ms=later_ms)
    assert answer.grants[0].granted == 4
    assert shares.is_settled(later_ms)


def test_money_without_a_bound_is_granted_and_an_overdrawn_balance_is_not() -> None:
    shares = QuotaShares(1, 0.0)
    (grant,) = ask(shares, "n1", 1, wanted(MONEY, 10**12), money=MAX_AMOUNT).grants
    assert grant.granted >= 10**12
    shares = QuotaShares(1, 0.0)
    (grant,) = ask(shares, "n1", 1, wanted(MONEY, 5), money=-50).grants
    assert (grant.granted, grant.limit, grant.left) == (0, -50, 0)


def test_what_nobody_holds_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = QuotaShares(1, 0.0)
    ask(shares, "n1", 1, wanted(SEQUENCES, 4))
    ask(shares, "n1", 2, now_ms=31_000.0)
    assert len(shares) == 0
    monkeypatch.setattr(quota_shares, "MAX_POOLS", 1)
    ask(shares, "n1", 3, wanted(SEQUENCES, 4), now_ms=62_000.0)
    with pytest.raises(Overloaded):
        ask(shares, "n1", 4, wanted(MONEY, 4), now_ms=62_000.0)
