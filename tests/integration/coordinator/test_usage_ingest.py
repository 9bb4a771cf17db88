"""Every record is counted exactly once, whatever happens to its batch."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import sqlite3
from pathlib import Path

import pytest

from coordinator.core.months import month_number_start_unix_ms
from coordinator.core.usage_batch import MAX_RECORD_BYTES, SpoolBatch
from coordinator.core.usage_rollup import UsageDelta
from coordinator.core.usage_sketches import ScopeFamily, SketchKind
from coordinator.usage import group
from coordinator.usage.database import UsageDatabase
from coordinator.usage.ingest import Ingest
from coordinator.usage.known import read_known
from coordinator.usage.reports import GroupBy, UsageQuery, sketches, sums_by
from coordinator.usage.restoring import mark_restored
from protos.domain.errors import InvalidRequest, Overloaded, StoreUnavailable
from protos.domain.fleet_view import with_changes
from protos.domain.usage_counters import CounterSums
from protos.domain.usage_record import UsageCause, UsageSums, add_record, key_of
from protos.wire.sketches import Sketch
from protos.wire.usage import encode_record
from tests.support.disks import fill_disk
from tests.support.usage_fleet import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    NOW_UNIX_MS,
    TERMS,
    batch,
    ingesting,
    record,
    view,
)
from tests.support.waiting import wait_until_async


async def one(database: UsageDatabase, sql: str) -> object:
    """Return the first column of the first row."""
    return (await database.read(lambda connection: connection.execute(sql).fetchone()))[0]


async def rows(database: UsageDatabase, sql: str) -> list[tuple[object, ...]]:
    return await database.read(lambda connection: connection.execute(sql).fetchall())


async def totals(database: UsageDatabase) -> tuple[object, ...]:
    """Return requests and money of the sums, and how many raw records there are."""
    sql = "SELECT coalesce(sum(requests), 0), coalesce(sum(nano_usd), 0) FROM usage_by_minute"
    return (*(await rows(database, sql))[0], await one(database, "SELECT count(*) FROM raw"))


COST = record().nano_usd


async def test_a_batch_is_counted_once_and_acknowledged_with_its_last_number(tmp_path: Path):
    posted: list[UsageDelta] = []
    committed: list[UsageDelta] = []
    async with ingesting(
        tmp_path / "usage.db",
        post=lambda connection, deltas: posted.extend(deltas),
        committed=committed.extend,
    ) as (database, ingest):
        outcome = await ingest.push(batch([record(1), record(2)]))
        assert (outcome.watermark, outcome.taken, outcome.refused) == (2, 2, False)
        assert await totals(database) == (2, 2 * COST, 2)
        again = await ingest.push(batch([record(1), record(2)]))
        assert (again.watermark, again.taken, again.duplicates) == (2, 0, 2)
        assert await totals(database) == (2, 2 * COST, 2)
        assert posted == committed
        assert [(delta.sums.nano_usd, delta.booked_month) for delta in posted] == [
            (2 * COST, 202611)
        ]
        assert (tmp_path / "usage.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("seed", range(8))
async def test_batches_duplicated_reordered_replayed_and_cut_anew_sum_to_what_was_spooled(
    tmp_path: Path, seed: int
):
    draw = random.Random(seed)
    posted: list[UsageDelta] = []
    async with ingesting(
        tmp_path / "usage.db", post=lambda connection, deltas: posted.extend(deltas)
    ) as (database, ingest):
        spools = {f"{n:032x}": [record(n * 100 + i) for i in range(30)] for n in range(3)}
        counted = dict.fromkeys(spools, 0)
        while any(counted[spool] < 30 for spool in spools):
            sent = []
            for _ in range(draw.randrange(1, 5)):
                spool = draw.choice(list(spools))
                first = max(1, min(30, counted[spool] + draw.randrange(-8, 4)))
                last = min(30, first + draw.randrange(1, 10))
                part = spools[spool][first - 1 : last]
                sent.append((spool, batch(part, first=first, spool=spool)))
            outcomes = await asyncio.gather(*(ingest.push(one) for _, one in sent))
            for (spool, _), outcome in zip(sent, outcomes, strict=True):
                counted[spool] = max(counted[spool], outcome.watermark)
        assert await totals(database) == (90, 90 * COST, 90)
        assert sum(delta.sums.nano_usd for delta in posted) == 90 * COST
        assert await one(database, "SELECT count(*) FROM quarantine") == 0


async def test_batches_that_arrive_together_share_a_transaction(tmp_path: Path):
    async with ingesting(tmp_path / "usage.db") as (database, ingest):
        spools = [f"{number:032x}" for number in range(40)]
        await asyncio.gather(*(ingest.push(batch([record()], spool=one)) for one in spools))
        assert await totals(database) == (40, 40 * COST, 40)
        assert ingest.counters.batches == 40
        assert ingest.counters.commits < 20


async def test_a_gap_is_refused_with_the_number_that_is_expected(tmp_path: Path):
    async with ingesting(tmp_path / "usage.db") as (database, ingest):
        await ingest.push(batch([record()]))
        outcome = await ingest.push(batch([record(4)], first=4))
        assert (outcome.refused, outcome.watermark) == (True, 1)
        assert outcome.reason == "2 is expected, not 4"
        assert await totals(database) == (1, COST, 1)
        assert (await ingest.push(batch([], first=2, last_seq=1))).watermark == 1
        unknown = batch([], first=1, last_seq=0, spool="9" * 32)
        assert (await ingest.push(unknown)).watermark == 0
        assert await one(database, "SELECT count(*) FROM spools") == 1


async def test_a_damaged_record_is_named_in_quarantine_and_later_ones_are_counted(tmp_path: Path):
    async with ingesting(tmp_path / "usage.db") as (database, ingest):
        kept = [(1, encode_record(record(1))), (3, encode_record(record(3)))]
        outcome = await ingest.push(batch(last_seq=4, payloads=kept, damaged=[2]))
        assert (outcome.watermark, outcome.taken) == (4, 2)
        assert await rows(database, "SELECT seq, kind, state FROM quarantine ORDER BY seq") == [
            (2, "damaged", "held"),
            (4, "missing", "held"),
        ]
        torn = kept[0][1][:-7]
        large = encode_record(record(path="x" * MAX_RECORD_BYTES))
        bad = batch(first=5, last_seq=6, payloads=[(5, torn), (6, large)])
        assert (await ingest.push(bad)).quarantined == 2
        assert await totals(database) == (2, 2 * COST, 2)


async def test_a_record_that_cannot_be_is_put_in_quarantine_and_named(tmp_path: Path):
    async with ingesting(tmp_path / "usage.db") as (database, ingest):
        greedy = dataclasses.replace(record(2), nano_usd=10**15)
        outcome = await ingest.push(batch([record(1), greedy, record(3)]))
        assert (outcome.watermark, outcome.taken, outcome.quarantined) == (3, 2, 1)
        [(node, seq, reason)] = await rows(database, "SELECT node, seq, reason FROM quarantine")
        assert (node, seq) == ("gru-1", 2)
        assert str(reason).startswith("1000000000000000 nano-USD, its tokens and rates make")


async def test_another_record_under_a_counted_number_is_a_conflict(tmp_path: Path):
    async with ingesting(tmp_path / "usage.db") as (database, ingest):
        await ingest.push(batch([record(1), record(2)]))
        lost = record(1, cause=UsageCause.AGENT_LOST)  # the same request; its end is forgotten
        outcome = await ingest.push(batch([lost, record(7)]))
        assert (outcome.duplicates, outcome.conflicts) == (2, 1)
        again = await ingest.push(batch([lost, record(7), record(3)]))
        assert (again.taken, again.conflicts) == (1, 1)
        assert await rows(database, "SELECT seq, kind FROM quarantine") == [(2, "conflict")]
        assert await one(database, "SELECT conflicts FROM spools") == 2
        assert await totals(database) == (3, 3 * COST, 3)


async def test_an_old_disk_image_cannot_take_numbers_that_were_used(tmp_path: Path):
    async with ingesting(tmp_path / "usage.db") as (database, ingest):
        await ingest.push(batch([record(n) for n in range(5)]))
        # The image ends at 3, and the agent that starts from it has a spool of its own.
        replayed = await ingest.push(batch([record(n) for n in range(3)]))
        fresh = await ingest.push(batch([record(9)], spool="6" * 32))
        assert (replayed.taken, fresh.taken) == (0, 1)
        assert await totals(database) == (6, 6 * COST, 6)


async def test_what_the_posting_refuses_is_undone_and_delays_no_other_batch(tmp_path: Path):
    def post(connection: sqlite3.Connection, deltas: list[UsageDelta]) -> None:
        connection.execute("INSERT INTO facts VALUES ('posted') ON CONFLICT DO NOTHING")
        if any(delta.sums.prompt_tokens % 100 == 77 for delta in deltas):
            raise ValueError("no such account in the books")

    async with ingesting(tmp_path / "usage.db", post=post) as (database, ingest):
        bad = batch([record(prompt_tokens=777)], spool="b" * 32)
        results = await asyncio.gather(
            ingest.push(batch([record(1)])),
            ingest.push(bad),
            ingest.push(batch([record(2)], spool="c" * 32)),
            return_exceptions=True,
        )
        assert [type(result).__name__ for result in results] == [
            "Outcome",
            "ValueError",
            "Outcome",
        ]
        assert await totals(database) == (2, 2 * COST, 2)
        assert await one(database, "SELECT count(*) FROM spools") == 2


async def test_a_caller_that_is_cancelled_is_counted_once_all_the_same(tmp_path: Path):
    async with ingesting(tmp_path / "usage.db") as (database, ingest):
        task = asyncio.get_running_loop().create_task(ingest.push(batch([record(1)])))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await ingest.push(batch([record(1), record(2)]))).watermark == 2
        assert await totals(database) == (2, 2 * COST, 2)


async def test_a_restarted_coordinator_continues_and_knows_what_was_removed(tmp_path: Path):
    path = tmp_path / "usage.db"
    async with ingesting(path) as (_, ingest):
        await ingest.push(batch([record(1)]))
    database = await UsageDatabase.open(path, lambda: NOW_UNIX_MS)
    ingest = Ingest(database, known=await read_known(database))  # it sees no table any more
    assert (await ingest.push(batch([record(1)]))).duplicates == 1
    outcome = await ingest.push(batch([record(2)], first=2))
    assert (outcome.taken, outcome.quarantined) == (1, 0)
    assert await totals(database) == (2, 2 * COST, 2)
    await database.close()


async def test_a_clock_that_is_wrong_is_counted_in_a_possible_minute_and_marked(tmp_path: Path):
    async with ingesting(tmp_path / "usage.db") as (database, ingest):
        ahead = record(2, began_unix_ms=NOW_UNIX_MS + 365 * DAY_MS)
        back = record(3, began_unix_ms=NOW_UNIX_MS - HOUR_MS)
        outcome = await ingest.push(batch([record(1), ahead, back]))
        assert (outcome.taken, outcome.suspect) == (3, 2)
        stored = await rows(database, "SELECT began_unix_ms, flags FROM raw ORDER BY seq")
        first_end = record(1).began_unix_ms + 940
        assert stored == [
            (record(1).began_unix_ms, 0),
            (NOW_UNIX_MS, 1),
            (first_end, 1),
        ]
        latest = await one(database, "SELECT max(minute_unix_ms) FROM sums")
        assert latest == NOW_UNIX_MS - NOW_UNIX_MS % 60_000


async def test_a_coordinator_that_was_away_for_a_week_believes_the_times_of_its_agents(
    tmp_path: Path,
):
    async with ingesting(tmp_path / "usage.db") as (database, ingest):
        week = [record(n, began_unix_ms=NOW_UNIX_MS - (8 - n) * DAY_MS) for n in range(1, 8)]
        for number, one_day in enumerate(week, 1):
            outcome = await ingest.push(batch([one_day], first=number))
            assert (outcome.taken, outcome.suspect) == (1, 0)
        days = await database.read(sums_by(UsageQuery()))
        assert [(day.group, day.sums.requests) for day in days] == [
            (f"2026-11-{21 + n}", 1) for n in range(7)
        ]


async def test_late_records_of_a_closed_month_adjust_the_next_one(tmp_path: Path):
    december = month_number_start_unix_ms(202612)
    closed = [0]
    posted: list[UsageDelta] = []
    async with ingesting(
        tmp_path / "usage.db",
        post=lambda connection, deltas: posted.extend(deltas),
        closed_through_unix_ms=lambda: closed[0],
    ) as (database, ingest):
        before = record(1, began_unix_ms=december - 1)
        after = record(2, began_unix_ms=december)
        arrived = december + 5 * DAY_MS
        await ingest.push(batch([before, after], arrived_unix_ms=arrived))
        closed[0] = december
        late = record(3, began_unix_ms=december - 1)
        await ingest.push(batch([late], spool="d" * 32, arrived_unix_ms=arrived))
        sql = (
            "SELECT minute_unix_ms, booked_month, requests FROM usage_by_minute"
            " ORDER BY minute_unix_ms, booked_month"
        )
        assert await rows(database, sql) == [
            (december - 60_000, 202611, 1),
            (december - 60_000, 202612, 1),
            (december, 202612, 1),
        ]
        assert [delta.booked_month for delta in posted] == [202611, 202612, 202612]
        raw = await rows(database, "SELECT began_unix_ms FROM raw WHERE seq = 1 ORDER BY spool_id")
        assert raw == [(december - 1,), (december - 1,)]  # its true time


async def test_sums_of_a_zone_feed_the_same_sums_and_sketches(tmp_path: Path):
    async with ingesting(tmp_path / "usage.db") as (database, ingest):
        zoned = record(2)
        sums = UsageSums()
        add_record(sums, zoned)
        counters = CounterSums(
            key_of(zoned), sums, ttft=Sketch.of([zoned.ttft_us]).bins, payload=b"x"
        )
        await ingest.push(batch([record(1)]))
        outcome = await ingest.push(batch(first=2, counters=[counters]))
        assert outcome.watermark == 2
        assert await totals(database) == (2, 2 * COST, 1)
        found = await database.read(
            sketches(SketchKind.FIRST_TOKEN, ScopeFamily.POP, 0, NOW_UNIX_MS)
        )
        assert found["standard", "GRU"].count == 2
        assert found["standard", "GRU"].quantile(0.99) == pytest.approx(40_000, rel=0.01)
        greedy = dataclasses.replace(counters, sums=dataclasses.replace(sums, nano_usd=10**12))
        outcome = await ingest.push(batch(first=3, counters=[greedy]))
        assert (outcome.quarantined, outcome.watermark) == (1, 3)
        assert (await totals(database))[0] == 2


async def test_a_node_that_fills_the_quarantine_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(group, "MAX_HELD_PER_NODE", 1)
    async with ingesting(tmp_path / "usage.db") as (_, ingest):
        assert (await ingest.push(batch(last_seq=2, damaged=[1, 2]))).watermark == 2
        outcome = await ingest.push(batch(first=3, last_seq=3, damaged=[3]))
        assert (outcome.refused, outcome.watermark) == (True, 2)
        assert "settle them first" in outcome.reason
        assert (await ingest.push(batch([record()], first=3))).taken == 1


async def test_a_node_that_makes_spools_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(group, "MAX_SPOOLS_PER_HOUR", 3)
    async with ingesting(tmp_path / "usage.db") as (_, ingest):
        outcomes = [
            await ingest.push(batch([record()], spool=f"{number:032x}")) for number in range(4)
        ]
        assert [outcome.refused for outcome in outcomes] == [False, False, False, True]
        later = batch([record()], spool="e" * 32, arrived_unix_ms=NOW_UNIX_MS + 2 * HOUR_MS)
        assert (await ingest.push(later)).taken == 1


async def test_too_much_that_waits_is_refused_with_a_time_to_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("coordinator.usage.ingest.MAX_WAITING_BYTES", 2_000)
    async with ingesting(tmp_path / "usage.db") as (database, ingest):
        results = await asyncio.gather(
            *(ingest.push(batch([record()], spool=f"{n:032x}")) for n in range(5)),
            return_exceptions=True,
        )
        refused = [one for one in results if isinstance(one, Overloaded)]
        assert refused
        assert all(one.retry_after_s for one in refused)
        assert (await totals(database))[0] == 5 - len(refused)


async def test_a_batch_that_no_spool_makes_is_an_error(tmp_path: Path):
    async with ingesting(tmp_path / "usage.db") as (_, ingest):
        with pytest.raises(InvalidRequest):
            await ingest.push(SpoolBatch("gru-1", "no", 1, 1, []))


async def test_after_a_restore_the_agent_goes_back_then_the_lost_numbers_are_named(
    tmp_path: Path,
):
    async with ingesting(tmp_path / "usage.db") as (database, ingest):
        await ingest.push(batch([record(1)]))
        await database.write(mark_restored(1))
        ahead = batch([record(9)], first=9)
        assert (await ingest.push(ahead)).watermark == 1  # asks for what it still has
        still = batch([record(n) for n in range(6, 10)], first=6)
        assert (await ingest.push(still)).watermark == 9
        assert await rows(database, "SELECT seq, last_seq, kind FROM quarantine") == [
            (2, 5, "lost")
        ]
        again = batch([record(20)], first=20)
        assert (await ingest.push(again)).refused
        assert (await ingest.push(again)).refused  # once only


async def test_sums_are_shown_by_day_deployment_and_tier(tmp_path: Path):
    async with ingesting(tmp_path / "usage.db") as (database, ingest):
        far = record(2, serving_node="iad-1", stream=False)
        await ingest.push(batch([record(1), far]))
        by_tier = await database.read(sums_by(UsageQuery(by=GroupBy.TIER)))
        assert [(row.group, row.sums.streams) for row in by_tier] == [
            ("central as central", 0),
            ("edge as edge", 1),
        ]
        by_deployment = await database.read(sums_by(UsageQuery(by=GroupBy.DEPLOYMENT)))
        assert [(row.group, row.sums.requests) for row in by_deployment] == [("acme small", 2)]
        assert await database.read(sums_by(UsageQuery(account="globex"))) == []


async def test_a_full_disk_is_unavailable_and_counting_resumes_by_itself(small_disk: Path):
    async with ingesting(small_disk / "usage.db") as (database, ingest):
        assert (await ingest.push(batch([record(1)]))).watermark == 1
        ballast = fill_disk(small_disk)
        sent = [record(number) for number in range(2, 2_000)]
        with pytest.raises(StoreUnavailable, match="full"):
            await ingest.push(batch(sent, first=2))
        assert not database.available
        before = await totals(database)
        ballast.unlink()
        await wait_until_async(lambda: database.available, 30, "the usage database again")
        watermark = (await ingest.push(batch([], first=1, last_seq=0))).watermark
        assert before == (watermark, watermark * COST, watermark)
        again = await ingest.push(batch([record(9)], first=watermark + 1))
        assert again.watermark == watermark + 1
        assert await totals(database) == (watermark + 1, (watermark + 1) * COST, watermark + 1)


async def test_what_a_node_bills_by_a_card_that_had_long_ended_is_held(tmp_path: Path):
    first = dataclasses.replace(TERMS, valid_from_unix_ms=NOW_UNIX_MS - 90 * DAY_MS)
    second = dataclasses.replace(TERMS, version=2, valid_from_unix_ms=NOW_UNIX_MS - 30 * DAY_MS)
    async with ingesting(tmp_path / "usage.db") as (database, ingest):
        for terms in (first, second):
            ingest.saw(with_changes(view(), (), [terms]))
        old = record(2)
        sums = UsageSums()
        add_record(sums, old)
        counters = CounterSums(key_of(old), sums, payload=b"x")
        outcome = await ingest.push(batch([record(1, card_version=1)]))
        assert (outcome.taken, outcome.quarantined, outcome.watermark) == (0, 1, 1)
        assert (await ingest.push(batch(first=2, counters=[counters]))).quarantined == 1
        reasons = await rows(database, "SELECT DISTINCT reason FROM quarantine")
        assert reasons == [("price card 1 had long ended when it began",)]
        free = dataclasses.replace(record(3), cause=UsageCause.FAILED, nano_usd=0)
        assert (await ingest.push(batch([free], first=3))).quarantined == 0


async def test_sums_of_another_year_are_booked_with_the_latest_of_their_spool(tmp_path: Path):
    async with ingesting(tmp_path / "usage.db") as (database, ingest):
        await ingest.push(batch([record(1)]))
        for number, minute in enumerate((0, NOW_UNIX_MS - 300 * DAY_MS), 2):
            key = dataclasses.replace(key_of(record(2)), minute_unix_ms=minute)
            await ingest.push(batch(first=number, counters=[CounterSums(key, UsageSums(shed=1))]))
        minutes = await rows(database, "SELECT min(minute_unix_ms) FROM usage_by_minute")
        assert minutes == [(NOW_UNIX_MS - MINUTE_MS,)]
