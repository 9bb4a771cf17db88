"""Dunning: states by days overdue, and whose states it may loosen."""

from __future__ import annotations

import pytest

from coordinator.core import dunning
from coordinator.core.dunning import DunningPolicy
from coordinator.core.months import DAY_MS
from protos.domain.customers import AccountState

POLICY = DunningPolicy(limited_days=7, suspended_days=21)
DUE = 1_000 * DAY_MS
ACTIVE, GRACE = AccountState.ACTIVE, AccountState.GRACE
LIMITED, SUSPENDED = AccountState.LIMITED, AccountState.SUSPENDED


@pytest.mark.parametrize(
    ("now", "state"),
    [
        (DUE - 1, ACTIVE),
        (DUE, GRACE),
        (DUE + 7 * DAY_MS - 1, GRACE),
        (DUE + 7 * DAY_MS, LIMITED),
        (DUE + 21 * DAY_MS - 1, LIMITED),
        (DUE + 21 * DAY_MS, SUSPENDED),
    ],
)
def test_the_state_follows_the_days_that_the_oldest_invoice_is_overdue(now, state):
    assert dunning.state_of([DUE + 30 * DAY_MS, DUE], now, POLICY) is state


def test_nothing_unpaid_is_active():
    assert dunning.state_of([], DUE + 900 * DAY_MS, POLICY) is ACTIVE


def test_a_payment_brings_back_what_dunning_had_suspended():
    assert dunning.applied(ACTIVE, ours=SUSPENDED, current=SUSPENDED) is ACTIVE


def test_an_operators_suspension_outlives_a_payment():
    assert dunning.applied(ACTIVE, ours=GRACE, current=SUSPENDED) is None
    assert dunning.applied(ACTIVE, ours=ACTIVE, current=SUSPENDED) is None


def test_a_stricter_state_is_always_written():
    assert dunning.applied(SUSPENDED, ours=ACTIVE, current=GRACE) is SUSPENDED
    assert dunning.applied(GRACE, ours=GRACE, current=GRACE) is None


def test_attempts_to_charge_follow_the_schedule_and_end():
    days = [dunning.next_attempt_unix_ms(DUE, n, POLICY) for n in range(6)]
    assert days == [DUE + day * DAY_MS for day in (0, 1, 3, 5, 7)] + [None]


def test_the_strictest_of_states_allows_the_least():
    assert dunning.strictest(GRACE, LIMITED) is LIMITED
    assert dunning.strictest(SUSPENDED, LIMITED) is SUSPENDED
    assert dunning.strictest(ACTIVE) is ACTIVE
