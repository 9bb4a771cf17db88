"""Long questions to the usage database: of one moment, and in nobody's way."""

from __future__ import annotations

import asyncio
import threading

import pytest

from coordinator.billing import books
from coordinator.usage.database import UsageDatabase
from tests.support.billing import FEBRUARY, count, usage

pytestmark = pytest.mark.integration


@pytest.fixture
async def database(tmp_path):
    opened = await UsageDatabase.open(tmp_path / "usage.db", lambda: FEBRUARY)
    await use(opened)
    yield opened
    await opened.close()


async def use(database):
    await database.run(
        lambda connection: count(connection, [usage()], FEBRUARY), lambda result: None
    )


def transactions(connection):
    return connection.execute("SELECT count(*) FROM ledger_transactions").fetchone()[0]


@pytest.mark.parametrize("how", ["read", "read_apart"])
async def test_what_is_committed_during_a_question_is_in_none_of_its_answers(database, how):
    begun, go_on = threading.Event(), threading.Event()

    def question(connection):
        before = transactions(connection)
        begun.set()
        assert go_on.wait(10)
        return before, transactions(connection), books.audit(connection).problems

    asked = asyncio.create_task(getattr(database, how)(question))
    await asyncio.to_thread(begun.wait, 10)
    await use(database)
    go_on.set()
    assert await asked == (1, 1, [])
    assert await getattr(database, how)(transactions) == 2


async def test_a_check_of_the_ledger_keeps_no_report_waiting(database):
    begun, go_on = threading.Event(), threading.Event()

    def question(connection):
        begun.set()
        assert go_on.wait(10)
        return books.audit(connection)

    asked = asyncio.create_task(database.read_apart(question))
    await asyncio.to_thread(begun.wait, 10)
    await use(database)
    assert await asyncio.wait_for(database.read(transactions), 5) == 2
    assert not asked.done()
    go_on.set()
    assert (await asked).problems == []
