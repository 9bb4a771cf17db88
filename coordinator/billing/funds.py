"""What an account may still spend: its prepaid balance, and its monthly cap."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.billing import account_credits, customers
from coordinator.core import grants
from coordinator.core.alerts import Spending
from coordinator.core.months import month_of, number_of_month

if TYPE_CHECKING:
    import sqlite3

    from coordinator.core.grants import Credit
    from coordinator.core.usage_rollup import UsageDelta
    from coordinator.usage.database import UsageDatabase


@dataclass(slots=True)
class _Funds:
    """A funded account as last read, less what was committed since."""

    prepaid: bool
    cap_nano_usd: int
    credits: list[Credit]
    #: Booked in the current month, and what nobody has paid of prepaid accounts.
    month: int
    spent_nano_usd: int
    unpaid_nano_usd: int
    since_nano_usd: int = 0


@dataclass(slots=True)
class Funds:
    """Answers ``remaining_of`` from memory; the database is read when something changes."""

    database: UsageDatabase
    now_unix_ms: Callable[[], int]
    _known: dict[str, _Funds] = field(default_factory=dict)
    #: Reads begun; an older one never replaces a newer.
    _reads: int = 0

    def remaining_of(self, account: str) -> int | None:
        """Return what an account may still spend now, in nano-USD; None: unlimited."""
        funds = self._known.get(account)
        if funds is None:
            return None
        bounds = []
        now_unix_ms = self.now_unix_ms()
        if funds.prepaid:
            left = grants.remaining(funds.credits, now_unix_ms)
            bounds.append(left - funds.since_nano_usd - funds.unpaid_nano_usd)
        if funds.cap_nano_usd:
            spent = self._spent(funds, now_unix_ms)
            bounds.append(funds.cap_nano_usd - spent)
        return max(0, min(bounds))

    def committed(self, deltas: Iterable[UsageDelta]) -> None:
        """Count usage that was just committed, until the next read."""
        # Not the month of the usage: an agent's clock may be ahead over the month's edge, and what
        # it sends then must not end the count of a month that is not over.
        month = number_of_month(month_of(self.now_unix_ms()))
        for delta in deltas:
            funds = self._known.get(delta.key.account)
            if funds is None:
                continue
            funds.since_nano_usd += delta.sums.nano_usd
            if month > funds.month:
                funds.month, funds.spent_nano_usd = month, 0
            if delta.booked_month == funds.month:
                funds.spent_nano_usd += delta.sums.nano_usd

    async def refresh(self) -> None:
        """Read every funded account again, between the writes of the database."""
        self._reads += 1
        number, now_unix_ms = self._reads, self.now_unix_ms()

        def published(read: dict[str, _Funds]) -> None:
            # On the event loop in the order of the commits: nothing committed since is lost.
            if number == self._reads:
                self._known = read

        await self.database.write(lambda connection: _read(connection, now_unix_ms), published)

    def spending_of(self, account: str) -> list[Spending]:
        """Return what alerts follow: of the cap, of the balance."""
        funds = self._known.get(account)
        if funds is None:
            return []
        now_unix_ms = self.now_unix_ms()
        period, found = month_of(now_unix_ms), []
        spent = self._spent(funds, now_unix_ms)
        if funds.cap_nano_usd:
            found.append(Spending("cap", period, spent, funds.cap_nano_usd))
        if funds.prepaid:
            left = max(0, grants.remaining(funds.credits, now_unix_ms) - funds.since_nano_usd)
            found.append(Spending("balance", period, spent, spent + left))
        return found

    def bounds(self, account: str) -> bool:
        """Return whether an account's spending is bounded."""
        return account in self._known

    @property
    def funded(self) -> frozenset[str]:
        """The accounts whose spending is bounded."""
        return frozenset(self._known)

    def _spent(self, funds: _Funds, now_unix_ms: int) -> int:
        current = number_of_month(month_of(now_unix_ms)) == funds.month
        return funds.spent_nano_usd if current else 0


def _read(connection: sqlite3.Connection, now_unix_ms: int) -> dict[str, _Funds]:
    month = number_of_month(month_of(now_unix_ms))
    found = {}
    for one in customers.all_of(connection):
        if not one.funded:
            continue
        (spent,) = connection.execute(
            "SELECT coalesce(sum(nano_usd), 0) FROM month_lines"
            " WHERE account = ? AND booked_month = ?",
            (one.account, month),
        ).fetchone()
        (unpaid,) = connection.execute(
            "SELECT coalesce(sum(balance_nano_usd), 0) FROM ledger_accounts WHERE name IN (?, ?)",
            (f"unbilled/{one.account}", f"receivable/{one.account}"),
        ).fetchone()
        left = account_credits.left_of(connection, one.account)
        found[one.account] = _Funds(
            one.prepaid, one.cap_nano_usd, left, month, spent, max(0, unpaid)
        )
    return found
