"""The order in which credits are used, and the exact instant at which one ends."""

from __future__ import annotations

import pytest

from coordinator.core import grants
from coordinator.core.grants import Credit, CreditKind
from protos.domain.errors import InvalidRequest

MINUTE = 60_000


def credit(
    number: int, kind: CreditKind = CreditKind.GRANT, nano: int = 10, *, expires: int = 0
) -> Credit:
    return Credit(number, kind, nano, number, expires)


def test_the_soonest_expiry_is_used_first_then_grants_then_the_older():
    never_prepaid = credit(1, CreditKind.PREPAID)
    never_grant = credit(2)
    late_prepaid = credit(3, CreditKind.PREPAID, expires=900 * MINUTE)
    soon_prepaid = credit(4, CreditKind.PREPAID, expires=500 * MINUTE)
    soon_grant = credit(5, expires=500 * MINUTE)
    younger_soon_grant = credit(6, expires=500 * MINUTE)
    everyone = [
        *(never_prepaid, never_grant, late_prepaid, soon_prepaid),
        *(younger_soon_grant, soon_grant),
    ]
    assert [one.id for one in grants.in_order(everyone)] == [5, 6, 4, 3, 2, 1]


def test_usage_is_paid_over_several_credits_and_the_rest_is_named():
    used, rest = grants.use([credit(1, nano=10), credit(2, nano=5)], 18, 0)
    assert [(one.credit.id, one.nano_usd) for one in used] == [(1, 10), (2, 5)]
    assert rest == 3


def test_a_grant_pays_until_its_instant_and_not_from_it_on():
    ends = credit(1, expires=100 * MINUTE)
    assert grants.use([ends], 5, 99 * MINUTE)[1] == 0
    assert grants.use([ends], 5, 100 * MINUTE)[1] == 5
    assert grants.remaining([ends], 100 * MINUTE - 1) == 10
    assert grants.remaining([ends], 100 * MINUTE) == 0


def test_an_expiry_is_a_whole_minute_and_in_the_future():
    assert grants.check_expiry(61_000, 0) == 2 * MINUTE
    assert grants.check_expiry(MINUTE, 0) == MINUTE
    assert grants.check_expiry(0, 5) == 0
    with pytest.raises(InvalidRequest, match="expired already"):
        grants.check_expiry(5, 5)
