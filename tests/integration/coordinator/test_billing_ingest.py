"""Batches of usage through the real ingest: the ledger, the rollups and raw records agree."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.billing import books
from coordinator.usage.ingest import Ingest
from protos.domain.errors import Conflict
from protos.domain.usage_record import UsageCause
from tests.support.billing_service import billed_fleet
from tests.support.usage_fleet import HOUR_MS, NOW_UNIX_MS, batch, record

pytestmark = pytest.mark.integration


@pytest.fixture
async def fleet(tmp_path):
    async with billed_fleet(tmp_path) as found:
        found.clock.unix_ms = NOW_UNIX_MS
        yield found


def ingest_of(fleet) -> Ingest:
    billing = fleet.billing
    return Ingest(
        fleet.database,
        post=billing.post,
        committed=billing.committed,
        closed_through_unix_ms=billing.closed_through_unix_ms,
    )


async def test_duplicates_replays_and_free_requests_leave_ledger_rollups_and_raw_equal(fleet):
    ingest = ingest_of(fleet)
    records = [record(number, ("acme", "b1")[number % 2]) for number in range(1, 60)]
    free = replace(record(60), cause=UsageCause.EMPTY, completion_tokens=0, nano_usd=0)
    for _ in range(3):
        await ingest.push(batch([*records, free]))
    await ingest.push(batch([*records, free]))
    found = await fleet.database.read(books.audit)
    total = sum(one.nano_usd for one in records)
    assert found.problems == []
    assert (found.usage_nano_usd, found.rollup_nano_usd, found.raw_nano_usd) == (total,) * 3


async def test_a_posting_that_fails_undoes_the_batch_and_a_later_push_counts_it_once(fleet):
    ingest = ingest_of(fleet)
    failing = True

    def post(connection, deltas):
        fleet.billing.post(connection, deltas)
        if failing:
            raise Conflict("a month was closed meanwhile")

    ingest._post = post
    with pytest.raises(Conflict):
        await ingest.push(batch([record(1)]))
    found = await fleet.database.read(books.audit)
    assert (found.transactions, found.rollup_nano_usd, found.raw_nano_usd) == (0, 0, 0)
    failing = False
    await ingest.push(batch([record(1)]))
    found = await fleet.database.read(books.audit)
    assert found.problems == []
    assert found.usage_nano_usd == found.raw_nano_usd == record(1).nano_usd


async def test_usage_that_comes_after_the_close_is_booked_in_the_next_month(fleet):
    ingest = ingest_of(fleet)
    await ingest.push(batch([record(1)]))
    fleet.forward(4 * 24 * HOUR_MS)  # from 28 November to 2 December
    (made,) = await fleet.billing.close_month("2026-11")
    assert made.total_nano_usd == record(1).nano_usd
    await ingest.push(batch([record(2)], first=2))
    rows = await fleet.database.read(
        lambda one: one.execute(
            "SELECT booked_month, usage_month, nano_usd FROM month_lines ORDER BY booked_month"
        ).fetchall()
    )
    assert rows == [(202611, 202611, record(1).nano_usd), (202612, 202611, record(2).nano_usd)]
    assert (await fleet.database.read(books.audit)).problems == []
