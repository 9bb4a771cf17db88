"""Closes months and issues their invoices: in order, once each, also across restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.billing import invoices
from coordinator.core.months import (
    check_month,
    month_end_unix_ms,
    months_to_close,
    next_month,
    number_of_month,
    text_of_month,
)
from protos.domain.errors import Conflict, InvalidRequest

if TYPE_CHECKING:
    import sqlite3

    from coordinator.billing.invoices import InvoiceRules
    from coordinator.core.invoice_rules import Invoice
    from coordinator.core.months import ClosePolicy

#: Invoices of one transaction, so that usage is not kept waiting.
_BATCH = 50


def last_closed(connection: sqlite3.Connection) -> int:
    """Return the newest closed month, such as 202602; 0: none."""
    (month,) = connection.execute("SELECT coalesce(max(month), 0) FROM closed_months").fetchone()
    return int(month)


def closed_through_unix_ms(connection: sqlite3.Connection) -> int:
    """Return the instant before which everything is closed; 0: nothing is."""
    month = last_closed(connection)
    return month_end_unix_ms(text_of_month(month)) if month else 0


def first_open(connection: sqlite3.Connection) -> str:
    """Return the month that is closed next; empty: nothing was used yet."""
    closed = last_closed(connection)
    if closed:
        return next_month(text_of_month(closed))
    (month,) = connection.execute("SELECT min(booked_month) FROM month_lines").fetchone()
    return text_of_month(month) if month else ""


def close_due(connection: sqlite3.Connection, now_unix_ms: int, policy: ClosePolicy) -> list[str]:
    """Close every month whose time has come, and return them."""
    first = first_open(connection)
    due = months_to_close(first, now_unix_ms, policy) if first else []
    for month in due:
        _close(connection, month, now_unix_ms)
    return due


def close_now(connection: sqlite3.Connection, month: str, now_unix_ms: int) -> str:
    """Close a month before its grace has ended, and return it: an operator says so.

    Raises: InvalidRequest for a month that has not ended, Conflict for one that is not next.
    """
    check_month(month)
    if now_unix_ms < month_end_unix_ms(month):
        raise InvalidRequest(f"{month} has not ended", "a month is closed after its end, in UTC")
    first = first_open(connection)
    if first != month:
        raise Conflict(
            f"the month that is closed next is {first or 'none: nothing was used'}",
            "months are closed in their order, once each",
            retryable=False,
        )
    _close(connection, month, now_unix_ms)
    return month


def _close(connection: sqlite3.Connection, month: str, now_unix_ms: int) -> None:
    connection.execute(
        "INSERT INTO closed_months VALUES (?, ?, 0)", (number_of_month(month), now_unix_ms)
    )


def without_invoices(connection: sqlite3.Connection) -> list[str]:
    """Return closed months whose invoices are not all issued, in their order."""
    return [
        text_of_month(month)
        for (month,) in connection.execute(
            "SELECT month FROM closed_months WHERE invoiced_unix_ms = 0 ORDER BY month"
        )
    ]


def issue_some(
    connection: sqlite3.Connection, month: str, rules: InvoiceRules, now_unix_ms: int
) -> list[Invoice]:
    """Issue invoices of a closed month, some in a transaction; none: all are issued."""
    accounts = invoices.accounts_to_invoice(connection, month)
    if not accounts:
        connection.execute(
            "UPDATE closed_months SET invoiced_unix_ms = ? WHERE month = ?",
            (now_unix_ms, number_of_month(month)),
        )
    return [
        invoices.issue(connection, account, month, rules, now_unix_ms)
        for account in accounts[:_BATCH]
    ]


def believed_unix_ms(connection: sqlite3.Connection) -> int:
    """Return the time that the clock was believed at last; 0: never."""
    row = connection.execute("SELECT believed_unix_ms FROM billing_clock").fetchone()
    return int(row[0]) if row else 0


def remember_clock(connection: sqlite3.Connection, believed: int) -> None:
    """Keep what is believed of the clock for the next start."""
    connection.execute(
        "INSERT INTO billing_clock VALUES (1, ?)"
        " ON CONFLICT (id) DO UPDATE SET believed_unix_ms = excluded.believed_unix_ms",
        (believed,),
    )
