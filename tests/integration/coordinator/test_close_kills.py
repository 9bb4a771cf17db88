"""The coordinator is killed before each statement of a month's close."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import warnings
from pathlib import Path

import pytest

from coordinator.billing import books, invoices, month_close
from coordinator.usage.migration import migrate
from coordinator.usage.migrations import ALL_MIGRATIONS
from tests.support.billing import CENT, FEBRUARY, MARCH, count, rules, usage

pytestmark = pytest.mark.integration

ACCOUNTS = ("acme", "globex", "initech")
#: A close has fewer statements.
MAX_STEPS = 400


def open_books(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")  # a kill loses nothing that was written
    migrate(connection, ALL_MIGRATIONS, 1)
    return connection


def close_february(connection: sqlite3.Connection) -> None:
    """Do what billing does after the grace, a transaction for each step."""
    with Transaction(connection):
        if not month_close.last_closed(connection):
            month_close.close_now(connection, "2028-02", MARCH)
    for month in month_close.without_invoices(connection):
        while True:
            with Transaction(connection):
                issued = month_close.issue_some(connection, month, rules(), MARCH)
            if not issued:
                break


class Transaction:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *rest: object) -> None:
        self._connection.execute("COMMIT" if kind is None else "ROLLBACK")


def killed(path: Path, at: int) -> bool:
    """Return whether a forked child was killed before its ``at``-th statement."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads do not take part
        pid = os.fork()
    if pid == 0:
        left = at

        def step(_sql: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            connection = open_books(path)
            connection.set_trace_callback(step)
            close_february(connection)
        except BaseException:
            os._exit(3)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def test_a_close_that_is_killed_at_every_step_leaves_no_gap_and_no_second_invoice(
    tmp_path: Path,
) -> None:
    begun = tmp_path / "usage.db"
    connection = open_books(begun)
    for place, account in enumerate(ACCOUNTS, 1):
        count(connection, [usage(account, place * CENT + 3, FEBRUARY)], FEBRUARY)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    at = 0
    while True:
        at += 1
        assert at < MAX_STEPS
        path = tmp_path / f"{at}.db"
        shutil.copy(begun, path)
        again = killed(path, at)
        connection = open_books(path)
        close_february(connection)
        found = [row for account in ACCOUNTS for row in invoices.listed(connection, account)]
        numbers = sorted(row.invoice.number for row in found)
        assert [one[-6:] for one in numbers] == ["000001", "000002", "000003"]
        assert sum(row.invoice.due_cents for row in found) == 6
        assert books.audit(connection).problems == []
        connection.close()
        if not again:
            break
    assert at > 20, "it was killed in between"
