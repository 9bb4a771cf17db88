"""Batches that wait for a busy database: one job at a time, and nothing is left behind."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, cast

import pytest

from coordinator.usage.database import UsageDatabase
from coordinator.usage.ingest import Ingest
from protos.domain.errors import StoreUnavailable
from tests.support.billing import books_in_memory
from tests.support.usage_fleet import batch, record


class StandInDatabase:
    """Runs jobs on the event loop once ``free`` is set, or refuses them as a full queue does."""

    def __init__(self) -> None:
        self.connection = books_in_memory()
        self.free = asyncio.Event()
        self.free.set()
        self.refuses = False
        self.jobs = 0

    async def run(
        self, job: Callable[[sqlite3.Connection], Any], published: Callable[[Any], None]
    ) -> Any:
        if self.refuses:
            raise StoreUnavailable("too many wait", "ask again in a moment")
        self.jobs += 1
        await self.free.wait()
        result = job(self.connection)
        published(result)
        return result


def ingest_on(database: StandInDatabase) -> Ingest:
    return Ingest(cast("UsageDatabase", database))


async def test_batches_of_3000_agents_that_come_at_once_share_few_transactions() -> None:
    database = StandInDatabase()
    ingest = ingest_on(database)
    database.free.clear()
    pushes = [
        asyncio.create_task(ingest.push(batch([record(n)], node=f"gru-{n}", spool=f"{n:032x}")))
        for n in range(3_000)
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert database.jobs == 1, "the others wait for this one, and not in the database's queue"
    database.free.set()
    outcomes = await asyncio.gather(*pushes)
    assert sum(one.taken for one in outcomes) == ingest.counters.records == 3_000
    assert ingest.counters.commits <= 8


async def test_a_batch_that_the_database_had_no_room_for_is_not_kept_and_counts_once_later() -> (
    None
):
    database = StandInDatabase()
    ingest = ingest_on(database)
    database.refuses = True
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await ingest.push(batch([record()]))
    assert not ingest._waiting
    assert ingest._waiting_bytes == 0
    database.refuses = False
    assert (await ingest.push(batch([record()]))).taken == 1
    assert (ingest.counters.records, ingest.counters.duplicates) == (1, 0)


async def test_an_agent_that_leaves_before_its_batch_is_counted_holds_up_nobody() -> None:
    database = StandInDatabase()
    ingest = ingest_on(database)
    database.free.clear()
    gone, stays = (
        asyncio.create_task(ingest.push(batch([record(n)], spool=f"{n:032x}"))) for n in (1, 2)
    )
    await asyncio.sleep(0)
    gone.cancel()
    database.free.set()
    assert (await stays).taken == 1
    assert ingest.counters.records == 2, "what has arrived is counted all the same"
    assert ingest._waiting_bytes == 0
