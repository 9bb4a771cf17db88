"""The coordinator is killed before each statement of a month's close, and loses or doubles nothing.

Expiry, close, invoices, SLA credits, charges and states are in it, in both databases.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import tempfile
import warnings
from pathlib import Path

import pytest

import coordinator.store.sqlite.database as store_database
import coordinator.usage.database as usage_database
from coordinator.billing import account_credits, books, invoices
from coordinator.billing.account_credits import NewCredit
from coordinator.core.grants import CreditKind
from coordinator.core.months import DAY_MS
from coordinator.core.price_card import first_card
from coordinator.store import accounts, prices
from protos.domain.customers import Account
from tests.support.billed_year import Cards, Coordinator
from tests.support.billing import CENT, FEBRUARY, MARCH, count, usage

pytestmark = pytest.mark.integration

HOUR_MS = 3_600_000
NAMES = ("acme", "b1", "c1")
#: When February is closed, and when its invoices are due.
CLOSE, DUE = MARCH + 3 * DAY_MS, MARCH + 17 * DAY_MS
#: Above this the test would take too long.
MAX_STEPS = 600


def outcome_of(key: str) -> str:
    """Return what comes of a charge: c1's card is declined."""
    return "declined" if key.startswith("EF-2028-000003") else "paid"


async def make(folder: Path) -> None:
    """Use a month: a promise is missed, a grant pays and another one ends."""
    world = Coordinator(folder, Cards(outcome_of), FEBRUARY)
    await world.open()
    await world.store.write(prices.begin(first_card("ana", FEBRUARY)))
    for name in NAMES:
        await world.store.write(accounts.create(Account(name)))
        await world.database.write(lambda one, name=name: fill(one, name))
    while world.clock() < CLOSE - DAY_MS:
        world.forward(DAY_MS)
        await world.billing.tick()
    await world.close()


def fill(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("COMMIT")  # ``count`` has a transaction of its own
    late = usage(name, 30 * CENT, FEBRUARY + 20 * DAY_MS, streams=10, streams_in_time=9)
    if name == "b1":
        give(connection, 99 * CENT, 0)
    count(connection, [usage(name, 70 * CENT + 1, FEBRUARY + 10 * DAY_MS), late], FEBRUARY)
    if name == "b1":
        give(connection, 7 * CENT, CLOSE - 2 * HOUR_MS)
    connection.execute("BEGIN IMMEDIATE")


def give(connection: sqlite3.Connection, nano: int, expires: int) -> None:
    new = NewCredit("b1", CreditKind.GRANT, nano, "why", "ana", expires)
    account_credits.give(connection, new, FEBRUARY)


async def go_on(world: Coordinator, step: object = lambda: None) -> None:
    """Close, take late usage, charge, and charge again, from wherever it was."""
    for at in (CLOSE, CLOSE + HOUR_MS, DUE, DUE + DAY_MS):
        if world.clock() < at:
            world.forward(at - world.clock())
        await world.billing.tick()
        step()  # type: ignore[operator]


async def late(world: Coordinator) -> None:
    """Count one request of the closed month, once."""
    closed_through = world.billing.closed_through_unix_ms()
    delta = usage("acme", 9 * CENT, MARCH - 1, closed_through_unix_ms=closed_through)

    def change(connection: sqlite3.Connection) -> None:
        count(connection, [delta], world.clock())

    await world.database.run(change, lambda result: None)


def run_killed(folder: Path, at: int) -> None:
    """Go on in this process, which ends before its ``at``-th statement that writes."""
    left = at

    def step(sql: str = "COMMIT") -> None:
        nonlocal left
        left -= sql.startswith(("BEGIN", "INSERT", "UPDATE", "DELETE", "COMMIT"))
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    for module in (usage_database, store_database):
        connect = module.connect

        def watched(*args, connect=connect, **kwargs):
            connection = connect(*args, **kwargs)
            if not kwargs.get("read_only"):
                connection.set_trace_callback(step)
            return connection

        module.connect = watched

    async def work() -> None:
        world = Coordinator(folder, Cards(outcome_of), CLOSE - HOUR_MS)
        world.provider.taken = Taken(folder / "taken")
        await world.open()
        await go_on(world, step)
        await world.close()

    asyncio.run(work())


class Taken(dict):
    """What left cards, on the provider's disk."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        path.touch()
        for line in path.read_text().splitlines():
            key, customer, cents = line.split()
            super().__setitem__(key, (customer, int(cents)))

    def __setitem__(self, key: str, value: tuple[str, int]) -> None:
        assert key not in self, "charged twice"
        super().__setitem__(key, value)
        with self.path.open("a") as file:
            file.write(f"{key} {value[0]} {value[1]}\n")


def killed(folder: Path, at: int) -> bool:
    """Return whether a forked child was killed before it had done everything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run_killed(folder, at)
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


async def told(folder: Path) -> list[object]:
    """Start again, go on, add late usage, and return what everything came to."""
    world = Coordinator(folder, Cards(outcome_of), CLOSE - HOUR_MS)
    world.provider.taken = Taken(folder / "taken")
    await world.open()
    await go_on(world)
    await late(world)
    world.forward(MARCH + 34 * DAY_MS - world.clock())
    await world.billing.tick()

    def question(connection: sqlite3.Connection) -> list[object]:
        rows = invoices.listed(connection, "")
        return [
            books.audit(connection).problems,
            [
                (row.invoice.number, row.invoice.account, row.invoice.month, row.invoice.lines)
                for row in rows
            ],
            [(row.invoice.due_cents, row.invoice.deductions, row.open_cents) for row in rows],
            books.all_balances(connection),
            [
                (one.account, one.credit.kind, one.credit.remaining_nano_usd, one.reason)
                for one in account_credits.listed(connection, "")
            ],
        ]

    found = await world.database.read(question)
    states = [world.store.view().accounts[name].state for name in NAMES]
    taken = sorted(dict(world.provider.taken).items())
    await world.close()
    return [*found, states, taken]


@pytest.fixture
def folder():
    """A disk that needs no waiting for, where there is one; kills do not need it either."""
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    made = Path(tempfile.mkdtemp(dir=parent))
    yield made
    shutil.rmtree(made)


def test_a_month_whose_close_is_killed_at_any_statement_is_billed_once(folder):
    template = folder / "template"
    template.mkdir()
    asyncio.run(make(template))
    at, expected = 0, None
    while at < MAX_STEPS:
        place = folder / str(at)
        shutil.copytree(template, place)
        again = at == 0 or killed(place, at)
        found = asyncio.run(told(place))
        if expected is None:
            expected = found
        assert found == expected, at
        shutil.rmtree(place)
        if not again:
            break
        at += 1
    problems, documents, *_, states, taken = expected
    assert problems == []
    assert [one[1:3] for one in documents[::-1]] == [
        *((name, "2028-02") for name in NAMES),
        ("acme", "2028-03"),
    ]
    assert states == ["active", "active", "limited"]
    assert taken == [("EF-2028-000001-1", ("acme", 90))]
    assert 60 < at < MAX_STEPS
