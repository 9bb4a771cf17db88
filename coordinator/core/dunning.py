"""Dunning: what an account may do while its invoices are overdue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from coordinator.core.months import DAY_MS
from protos.domain.customers import AccountState

#: Whose states dunning writes.
BILLING = "billing"
_STRICTNESS = {
    AccountState.ACTIVE: 0,
    AccountState.GRACE: 1,
    AccountState.LIMITED: 2,
    AccountState.SUSPENDED: 3,
}


@dataclass(frozen=True, slots=True)
class DunningPolicy:
    """Days after an invoice was due: grace begins when it is due."""

    limited_days: int = 7
    suspended_days: int = 21
    #: Days between attempts to charge an invoice that is due, the first at once.
    retry_days: tuple[int, ...] = (0, 1, 3, 5, 7)


def state_of(due_unix_ms: Iterable[int], now_unix_ms: int, policy: DunningPolicy) -> AccountState:
    """Return the state for an account, from when its unpaid invoices were due."""
    oldest = min(due_unix_ms, default=None)
    if oldest is None or now_unix_ms < oldest:
        return AccountState.ACTIVE
    days = (now_unix_ms - oldest) // DAY_MS
    if days >= policy.suspended_days:
        return AccountState.SUSPENDED
    return AccountState.LIMITED if days >= policy.limited_days else AccountState.GRACE


def strictest(*states: AccountState) -> AccountState:
    """Return the state that allows the least."""
    return max(states, key=_STRICTNESS.__getitem__)


def applied(
    wanted: AccountState, ours: AccountState | None, current: AccountState
) -> AccountState | None:
    """Return the state to write; None: leave it.

    ``ours`` is what dunning wrote last; None: the state is somebody else's. Such a state is made
    stricter, and is not loosened: an operator's suspension outlives a payment.
    """
    if wanted is current:
        return None
    if current is ours or _STRICTNESS[wanted] > _STRICTNESS[current]:
        return wanted
    return None


def next_attempt_unix_ms(due_unix_ms: int, attempts: int, policy: DunningPolicy) -> int | None:
    """Return when to charge after so many failed attempts; None: not by itself any more."""
    if attempts >= len(policy.retry_days):
        return None
    return due_unix_ms + policy.retry_days[attempts] * DAY_MS
