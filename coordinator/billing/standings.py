"""The states that accounts are to be in: by overdue invoices, and by payments that went back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.billing import customers, reversals
from coordinator.core import dunning
from protos.domain.customers import AccountState

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence

    from coordinator.core.dunning import DunningPolicy


@dataclass(frozen=True, slots=True)
class Standing:
    """What dunning wants of an account, and what it wrote last."""

    account: str
    wanted: AccountState
    ours: AccountState
    #: For the state: what is said beside it.
    reason: str = "invoices are paid"


def standings(
    connection: sqlite3.Connection,
    now_unix_ms: int,
    policy: DunningPolicy,
    written: Mapping[str, AccountState],
) -> Sequence[Standing]:
    """Return the accounts whose state dunning wants to change, or has changed.

    ``written`` are the states that dunning has put accounts in, as the other database says: it is
    written first, and what was noted here may be older when the process ended in between.
    """
    due: dict[str, list[int]] = {}
    for account, due_unix_ms in connection.execute(
        "SELECT account, due_unix_ms FROM settlements WHERE open_cents > 0"
    ):
        due.setdefault(account, []).append(due_unix_ms)
    ours = {one.account: one.dunning_state for one in customers.all_of(connection)}
    ours.update(written)
    reversed_of = reversals.limited(connection)
    found = []
    for account in sorted({*due, *ours, *reversed_of}):
        before = ours.get(account, customers.BilledAccount(account).dunning_state)
        by_invoices = dunning.state_of(due.get(account, ()), now_unix_ms, policy)
        by_payments = AccountState.LIMITED if account in reversed_of else AccountState.ACTIVE
        wanted = dunning.strictest(by_invoices, by_payments)
        if wanted is not before:
            reason = "invoices are paid"
            if wanted is not AccountState.ACTIVE:
                is_reversal = wanted is not by_invoices
                reason = "a payment was reversed" if is_reversal else "an invoice is overdue"
            found.append(Standing(account, wanted, before, reason))
    return found
