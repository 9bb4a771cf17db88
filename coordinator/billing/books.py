"""The ledger's tables: postings are appended, balances follow, and a check proves the sums."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.core import ledger
from coordinator.core.ledger import Entry, Posting
from coordinator.core.months import number_of_month, text_of_month
from protos.wire.usage import nano_usd_of

if TYPE_CHECKING:
    import sqlite3

_log = logging.getLogger(__name__)

#: Records between two lines of progress in the log.
_PROGRESS_RECORDS = 1_000_000
#: Most differences that a check names.
_MAX_PROBLEMS = 50


def append(connection: sqlite3.Connection, made: Posting) -> int:
    """Write a transaction and return its number. Raises: InvalidRequest if it is unbalanced."""
    ledger.check(made)
    cursor = connection.execute(
        "INSERT INTO ledger_transactions (kind, account, month, at_unix_ms, reference)"
        " VALUES (?, ?, ?, ?, ?)",
        (made.kind, made.account, number_of_month(made.month), made.at_unix_ms, made.reference),
    )
    number = int(cursor.lastrowid or 0)
    for entry in made.entries:
        (account_id,) = connection.execute(
            "INSERT INTO ledger_accounts (name, balance_nano_usd) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET"
            " balance_nano_usd = balance_nano_usd + excluded.balance_nano_usd RETURNING id",
            (entry.ledger_account, entry.nano_usd),
        ).fetchone()
        connection.execute(
            "INSERT INTO ledger_entries VALUES (?, ?, ?)", (number, account_id, entry.nano_usd)
        )
    return number


def balance(connection: sqlite3.Connection, ledger_account: str) -> int:
    """Return the balance of an account of the ledger."""
    row = connection.execute(
        "SELECT balance_nano_usd FROM ledger_accounts WHERE name = ?", (ledger_account,)
    ).fetchone()
    return int(row[0]) if row else 0


def all_balances(connection: sqlite3.Connection) -> list[tuple[str, int]]:
    """Return every account of the ledger with its balance, by name."""
    return connection.execute(
        "SELECT name, balance_nano_usd FROM ledger_accounts ORDER BY name"
    ).fetchall()


@dataclass(frozen=True, slots=True)
class Written:
    """A transaction as it stands in the ledger."""

    number: int
    posting: Posting


def transactions(
    connection: sqlite3.Connection, account: str, *, after: int = 0, limit: int = 1_000
) -> list[Written]:
    """Return transactions in their order; ``account`` empty: of everyone."""
    found = connection.execute(
        "SELECT id, kind, account, month, at_unix_ms, reference FROM ledger_transactions"
        " WHERE id > ? AND (? = '' OR account = ?) ORDER BY id LIMIT ?",
        (after, account, account, limit),
    ).fetchall()
    return [
        Written(
            number,
            Posting(
                kind, owner, text_of_month(month), at, tuple(_entries(connection, number)), about
            ),
        )
        for number, kind, owner, month, at, about in found
    ]


def _entries(connection: sqlite3.Connection, number: int) -> Iterator[Entry]:
    for name, nano_usd in connection.execute(
        "SELECT name, nano_usd FROM ledger_entries JOIN ledger_accounts"
        " ON ledger_accounts.id = ledger_account_id WHERE transaction_id = ? ORDER BY name",
        (number,),
    ):
        yield Entry(name, nano_usd)


@dataclass(slots=True)
class Audited:
    """What a check of the books found; no problems: ledger = rollups >= raw records."""

    transactions: int = 0
    entries: int = 0
    usage_nano_usd: int = 0
    rollup_nano_usd: int = 0
    #: Sum over raw records, those in the blob store too.
    raw_nano_usd: int = 0
    problems: list[str] = field(default_factory=list)


def audit(connection: sqlite3.Connection) -> Audited:
    """Compare the ledger with itself, the lines of invoices, the rollups and the credits."""
    found = Audited()
    (found.transactions,) = connection.execute(
        "SELECT count(*) FROM ledger_transactions"
    ).fetchone()
    (found.entries,) = connection.execute("SELECT count(*) FROM ledger_entries").fetchone()
    problems: list[str] = []
    problems += [
        f"transaction {number} is off by {off} nano-USD"
        for number, off in connection.execute(
            "SELECT transaction_id, sum(nano_usd) FROM ledger_entries GROUP BY transaction_id"
            " HAVING sum(nano_usd) <> 0 LIMIT ?",
            (_MAX_PROBLEMS,),
        )
    ]
    problems += [
        f"the balance of {name} is {kept}, its entries sum to {summed}"
        for name, kept, summed in connection.execute(
            "SELECT name, balance_nano_usd, coalesce(summed, 0) FROM ledger_accounts LEFT JOIN"
            " (SELECT ledger_account_id AS owner, sum(nano_usd) AS summed FROM ledger_entries"
            " GROUP BY ledger_account_id) ON owner = ledger_accounts.id"
            " WHERE balance_nano_usd <> coalesce(summed, 0) LIMIT ?",
            (_MAX_PROBLEMS,),
        )
    ]
    problems += _usage_problems(connection, found)
    found.raw_nano_usd = _raw_nano_usd(connection)
    if found.raw_nano_usd > found.rollup_nano_usd:
        problems.append(
            f"raw records sum to {found.raw_nano_usd} nano-USD, the rollups to"
            f" {found.rollup_nano_usd}"
        )
    problems += _credit_problems(connection)
    found.problems = problems[:_MAX_PROBLEMS]
    return found


def _usage_problems(connection: sqlite3.Connection, found: Audited) -> list[str]:
    """Compare usage by account and month: ledger, lines of invoices, sums by minute."""
    posted = _by_account_month(
        connection,
        "SELECT account, month, -sum(nano_usd) FROM ledger_transactions JOIN ledger_entries"
        " ON transaction_id = ledger_transactions.id JOIN ledger_accounts"
        f" ON ledger_accounts.id = ledger_account_id WHERE name = '{ledger.REVENUE_USAGE}'"
        " GROUP BY account, month",
    )
    lines = _by_account_month(
        connection,
        "SELECT account, booked_month, sum(nano_usd) FROM month_lines"
        " GROUP BY account, booked_month",
    )
    rolled = _by_account_month(
        connection,
        "SELECT account, booked_month, sum(nano_usd) FROM usage_by_minute"
        " GROUP BY account, booked_month",
    )
    found.usage_nano_usd, found.rollup_nano_usd = sum(posted.values()), sum(rolled.values())
    problems = []
    for key in sorted({*posted, *lines, *rolled}):
        amounts = (posted.get(key, 0), lines.get(key, 0), rolled.get(key, 0))
        if len(set(amounts)) > 1:
            problems.append(
                f"{key[0]} in {text_of_month(key[1])}: the ledger has {amounts[0]} nano-USD, the"
                f" invoice's lines {amounts[1]}, the rollups {amounts[2]}"
            )
    return problems


def _raw_nano_usd(connection: sqlite3.Connection) -> int:
    """Return the sum over records, decoded one by one; those of exports were summed then.

    One record is in memory at a time. Usage that zones keep comes as counters, so that the rollups
    may be more.
    """
    (exported,) = connection.execute("SELECT coalesce(sum(nano_usd), 0) FROM exports").fetchone()
    total = int(exported)
    for number, (payload,) in enumerate(connection.execute("SELECT payload FROM raw"), 1):
        total += nano_usd_of(payload)
        if number % _PROGRESS_RECORDS == 0:
            _log.info("ledger check records=%d", number)
    return total


def _by_account_month(connection: sqlite3.Connection, query: str) -> dict[tuple[str, int], int]:
    return {(account, month): nano for account, month, nano in connection.execute(query) if nano}


def _credit_problems(connection: sqlite3.Connection) -> list[str]:
    """Compare what is left of credits with the liabilities of the ledger."""
    left: dict[str, int] = {}
    for account, kind, nano_usd in connection.execute(
        "SELECT account, kind, sum(remaining_nano_usd) FROM credits GROUP BY account, kind"
    ):
        name = ledger.grants(account) if kind == "grant" else ledger.prepaid(account)
        left[name] = nano_usd
    for name, nano_usd in all_balances(connection):
        if name.startswith(("grants/", "prepaid/")):
            left[name] = left.get(name, 0) + nano_usd
    return [
        f"{name} of the ledger is off by {off} nano-USD from the credits that are left"
        for name, off in sorted(left.items())
        if off
    ]
