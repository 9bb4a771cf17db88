"""Credits of accounts: given, used in order, expired. Each move is a posting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from coordinator.billing import books
from coordinator.core import ledger
from coordinator.core.grants import Credit, CreditKind, Use, check_expiry
from coordinator.core.months import month_of, next_month, number_of_month
from protos.domain.errors import InvalidRequest

if TYPE_CHECKING:
    import sqlite3

MAX_REASON_CHARS = 500
#: Largest credit: a million dollars.
MAX_CREDIT_NANO_USD = 1_000_000 * 10**9
#: Credits of an account that are not used up, beyond which nobody asks for more. What follows from
#: money or a promise is added nevertheless: an invoice or a payment must not wait for it.
MAX_CREDITS = 1_000


@dataclass(frozen=True, slots=True)
class CreditRow:
    """A credit with its history."""

    credit: Credit
    account: str
    amount_nano_usd: int
    reason: str
    given_by: str


@dataclass(frozen=True, slots=True)
class NewCredit:
    """A credit to be given; ``cash_account`` is where prepaid money came in."""

    account: str
    kind: CreditKind
    nano_usd: int
    reason: str
    given_by: str
    expires_unix_ms: int = 0
    cash_account: str = ledger.CASH_MANUAL
    reference: str = ""


def pay(
    connection: sqlite3.Connection,
    account: str,
    nano_usd: int,
    now_unix_ms: int,
    cash: str,
    reference: str,
) -> None:
    """Post money that has come in for what an account owes; ``cash``: the ledger account of it."""
    month = open_month(connection, now_unix_ms)
    entries = ((cash, nano_usd), (ledger.receivable(account), -nano_usd))
    made = ledger.posting("payment", account, month, now_unix_ms, entries, reference)
    books.append(connection, made)


def giving(new: NewCredit, now_unix_ms: int) -> Callable[[sqlite3.Connection], Credit]:
    """Return the write of a credit that somebody gives, while there is room. InvalidRequest."""

    def write(connection: sqlite3.Connection) -> Credit:
        require_room(connection, new.account)
        return give(connection, new, now_unix_ms)

    return write


def give(connection: sqlite3.Connection, new: NewCredit, now_unix_ms: int) -> Credit:
    """Give a credit and post it. Raises: InvalidRequest.

    How many an account has is not looked at: money that came in is written down in any case.
    """
    if not 0 < new.nano_usd <= MAX_CREDIT_NANO_USD:
        raise InvalidRequest("a credit is more than nothing, and a million dollars at most")
    if not new.reason.strip() or len(new.reason) > MAX_REASON_CHARS:
        raise InvalidRequest(f"a credit needs a reason of up to {MAX_REASON_CHARS} characters")
    return take_in(connection, new, now_unix_ms)


def take_in(connection: sqlite3.Connection, new: NewCredit, now_unix_ms: int) -> Credit:
    """Give a credit for money that has come in, however much it is."""
    is_grant = new.kind is CreditKind.GRANT
    debit = ledger.EXPENSE_GRANTS if is_grant else new.cash_account
    credit = insert(connection, new, now_unix_ms)
    books.append(
        connection,
        ledger.posting(
            "grant" if is_grant else "topup",
            new.account,
            open_month(connection, now_unix_ms),
            now_unix_ms,
            ((debit, new.nano_usd), (liability(new.account, new.kind), -new.nano_usd)),
            new.reference or f"credit/{credit.id}",
        ),
    )
    return credit


def require_room(connection: sqlite3.Connection, account: str) -> None:
    """Raises: InvalidRequest where an account has so many credits that none is to be added."""
    if len(left_of(connection, account)) >= MAX_CREDITS:
        raise InvalidRequest(f"{account} has {MAX_CREDITS} credits", "use fewer, larger ones")


def insert(connection: sqlite3.Connection, new: NewCredit, now_unix_ms: int) -> Credit:
    """Add the row of a credit, which its caller posts. Raises: InvalidRequest for its expiry."""
    expires = check_expiry(new.expires_unix_ms, now_unix_ms)
    cursor = connection.execute(
        "INSERT INTO credits (account, kind, amount_nano_usd, remaining_nano_usd,"
        " created_unix_ms, expires_unix_ms, reason, given_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(new.account, new.kind.value, new.nano_usd, new.nano_usd, now_unix_ms),
            *(expires, new.reason, new.given_by),
        ),
    )
    return Credit(int(cursor.lastrowid or 0), new.kind, new.nano_usd, now_unix_ms, expires)


def left_of(connection: sqlite3.Connection, account: str) -> list[Credit]:
    """Return the credits of an account that are not used up, expired ones included."""
    return [
        Credit(number, CreditKind(kind), remaining, created, expires)
        for number, kind, remaining, created, expires in connection.execute(
            "SELECT id, kind, remaining_nano_usd, created_unix_ms, expires_unix_ms FROM credits"
            " WHERE account = ? AND remaining_nano_usd > 0",
            (account,),
        )
    ]


def lower(connection: sqlite3.Connection, part: Use) -> None:
    """Take a part of a credit; its caller posts it."""
    connection.execute(
        "UPDATE credits SET remaining_nano_usd = remaining_nano_usd - ? WHERE id = ?",
        (part.nano_usd, part.credit.id),
    )


def after(credit: Credit, used_nano_usd: int) -> Credit:
    """Return a credit of which a part was used."""
    if not used_nano_usd:
        return credit
    return replace(credit, remaining_nano_usd=credit.remaining_nano_usd - used_nano_usd)


def listed(connection: sqlite3.Connection, account: str) -> list[CreditRow]:
    """Return the credits of an account, the newest first; empty: of everyone."""
    return [
        CreditRow(
            Credit(number, CreditKind(kind), remaining, created, expires), owner, amount, why, by
        )
        for number, kind, remaining, created, expires, owner, amount, why, by in connection.execute(
            "SELECT id, kind, remaining_nano_usd, created_unix_ms, expires_unix_ms, account,"
            " amount_nano_usd, reason, given_by FROM credits WHERE ? = '' OR account = ?"
            " ORDER BY id DESC LIMIT 1000",
            (account, account),
        )
    ]


def expire(connection: sqlite3.Connection, now_unix_ms: int, settle_ms: int) -> Sequence[int]:
    """Post the end of credits that expired ``settle_ms`` ago, and return their numbers.

    Until then usage that began before the expiry, and arrives late, is still paid by them.
    """
    due = connection.execute(
        "SELECT id, account, kind, remaining_nano_usd, expires_unix_ms FROM credits"
        " WHERE remaining_nano_usd > 0 AND expires_unix_ms > 0 AND expires_unix_ms <= ?"
        " ORDER BY id LIMIT 1000",
        (now_unix_ms - settle_ms,),
    ).fetchall()
    for number, account, kind, nano_usd, expires in due:
        is_grant = kind == CreditKind.GRANT.value
        other = ledger.EXPENSE_GRANTS if is_grant else ledger.REVENUE_EXPIRED
        connection.execute("UPDATE credits SET remaining_nano_usd = 0 WHERE id = ?", (number,))
        books.append(
            connection,
            ledger.posting(
                "expiry",
                account,
                open_month(connection, expires),
                expires,
                ((liability(account, CreditKind(kind)), nano_usd), (other, -nano_usd)),
                f"credit/{number}",
            ),
        )
    return [row[0] for row in due]


def liability(account: str, kind: CreditKind) -> str:
    """Return the ledger's account of what is left of an account's credits."""
    return ledger.grants(account) if kind is CreditKind.GRANT else ledger.prepaid(account)


def open_month(connection: sqlite3.Connection, unix_ms: int) -> str:
    """Return the month of an instant, or the first open one if that is closed."""
    month = month_of(unix_ms)
    (closed,) = connection.execute("SELECT coalesce(max(month), 0) FROM closed_months").fetchone()
    while number_of_month(month) <= closed:
        month = next_month(month)
    return month
