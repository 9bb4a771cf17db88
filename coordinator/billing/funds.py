"""What an account may still spend: its prepaid balance, and its monthly cap."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.billing import account_credits, customers
from coordinator.core import grants
from coordinator.core.alerts import Spending
from coordinator.core.months import month_number_of, month_of

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
    #: Booked in the month of the reading and later ones, by month.
    spent_nano_usd: dict[int, int]
    #: What was used and nobody has paid.
    unpaid_nano_usd: int
    since_nano_usd: int = 0


@dataclass(slots=True)
class Funds:
    """Answers ``remaining_of`` from memory; the database is read when something changes."""

    database: UsageDatabase
    now_unix_ms: Callable[[], int]
    _known: dict[str, _Funds] = field(default_factory=dict)
    #: Accounts of which it is known that nothing bounds them.
    _unbounded: frozenset[str] = frozenset()
    #: Reads begun; an older one never replaces a newer.
    _reads: int = 0

    def remaining_of(self, account: str, *, only_paid: bool = False) -> int | None:
        """Return what an account may still spend now, in nano-USD; None: nothing bounds it.

        ``only_paid``: a cap lets nothing be spent that is not paid for in advance.
        """
        funds = self._known.get(account)
        if funds is None:
            return None
        bounds = []
        now_unix_ms = self.now_unix_ms()
        if funds.prepaid or only_paid:
            left = grants.remaining(funds.credits, now_unix_ms)
            bounds.append(left - funds.since_nano_usd - funds.unpaid_nano_usd)
        if funds.cap_nano_usd:
            spent = self._spent(funds, now_unix_ms)
            bounds.append(funds.cap_nano_usd - spent)
        return max(0, min(bounds))

    def committed(self, deltas: Iterable[UsageDelta]) -> None:
        """Count usage that was just committed, until the next read."""
        for delta in deltas:
            funds = self._known.get(delta.key.account)
            if funds is None:
                continue
            funds.since_nano_usd += delta.sums.nano_usd
            booked, spent = delta.booked_month, funds.spent_nano_usd
            spent[booked] = spent.get(booked, 0) + delta.sums.nano_usd

    async def refresh(self) -> None:
        """Read every funded account again, between the writes of the database."""
        self._reads += 1
        number, now_unix_ms = self._reads, self.now_unix_ms()

        def published(read: tuple[dict[str, _Funds], frozenset[str]]) -> None:
            # On the event loop in the order of the commits: nothing committed since is lost.
            if number == self._reads:
                self._known, self._unbounded = read

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

    def is_unbounded(self, account: str) -> bool:
        """Return whether it was decided that nothing bounds an account."""
        return account in self._unbounded

    @property
    def funded(self) -> frozenset[str]:
        """The accounts whose spending is bounded."""
        return frozenset(self._known)

    def _spent(self, funds: _Funds, now_unix_ms: int) -> int:
        """Return what counts against a cap: of this month, and of later ones.

        Usage is in a later month when clocks were ahead as it was booked.
        """
        month = month_number_of(now_unix_ms)
        return sum(spent for booked, spent in funds.spent_nano_usd.items() if booked >= month)


def _read(
    connection: sqlite3.Connection, now_unix_ms: int
) -> tuple[dict[str, _Funds], frozenset[str]]:
    month = month_number_of(now_unix_ms)
    found, unbounded = {}, set()
    for one in customers.all_of(connection):
        if not one.funded:
            unbounded.add(one.account)
            continue
        spent = connection.execute(
            "SELECT booked_month, sum(nano_usd) FROM month_lines"
            " WHERE account = ? AND booked_month >= ? GROUP BY booked_month",
            (one.account, month),
        ).fetchall()
        (unpaid,) = connection.execute(
            "SELECT coalesce(sum(balance_nano_usd), 0) FROM ledger_accounts WHERE name IN (?, ?)",
            (f"unbilled/{one.account}", f"receivable/{one.account}"),
        ).fetchone()
        left = account_credits.left_of(connection, one.account)
        found[one.account] = _Funds(
            one.prepaid, one.bound_nano_usd, left, dict(spent), max(0, unpaid)
        )
    return found, frozenset(unbounded)
