"""Delivery of spools: order, repetition, crashes, zones, weeks away."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from agent.clock import now_mono_ms
from agent.spool.kept import read_kept
from agent.spool.reader import SpoolReader
from agent.spool.spool import MAX_UNSEEN_MS
from protos.domain.usage_record import UsageCause
from protos.v1 import usage_pb2 as u
from protos.wire.sketches import Sketch
from protos.wire.usage import CAUSE_TO_WIRE, decode_record
from tests.support.counting_coordinator import CountingCoordinator
from tests.support.spools import (
    NOW_UNIX_MS,
    abandon,
    delivering,
    recorded,
    recorded_and_seen,
    running,
    spool_in,
)
from tests.support.usage_records import usage_record
from tests.support.waiting import wait_until_async


def causes(coordinator: CountingCoordinator) -> list[int]:
    return [record.cause for record in coordinator.counted.values()]


async def test_records_are_delivered_in_order_once_their_end_is_known(tmp_path: Path):
    coordinator = CountingCoordinator()
    async with running(spool_in(tmp_path)) as spool, delivering(spool, coordinator):
        first = await recorded(spool, usage_record(trace_id=f"{1:032x}"))
        await recorded_and_seen(spool, 3)
        await wait_until_async(lambda: spool.commit.noted_count == 3, 5, "the notes in the file")
        assert not coordinator.counted
        spool.seen(first, UsageCause.COMPLETE)
        await wait_until_async(lambda: len(coordinator.counted) == 4, 5, "all four")
        assert coordinator.traces() == [f"{number:032x}" for number in range(1, 5)]
        assert spool.stats.delivered == 4


async def test_the_cause_that_was_said_is_the_cause_that_is_counted(tmp_path: Path):
    coordinator = CountingCoordinator()
    async with running(spool_in(tmp_path)) as spool, delivering(spool, coordinator):
        await recorded_and_seen(spool, 1, UsageCause.CLIENT_GONE)
        await recorded(spool, usage_record(cause=UsageCause.FAILED))
        await recorded_and_seen(spool, 1)
        await wait_until_async(lambda: len(coordinator.counted) == 3, 5, "all three")
    said = [UsageCause.CLIENT_GONE, UsageCause.FAILED, UsageCause.COMPLETE]
    assert causes(coordinator) == [CAUSE_TO_WIRE[cause] for cause in said]


async def test_money_is_settled_by_the_number_up_to_which_records_are_counted(tmp_path: Path):
    coordinator, told = CountingCoordinator(), []
    async with running(spool_in(tmp_path)) as spool, delivering(spool, coordinator) as shipper:
        shipper.on_counted = lambda number: told.append((number, len(coordinator.counted)))
        numbers = await recorded_and_seen(spool, 3)
        await wait_until_async(lambda: told and told[-1][0] == numbers[-1], 5, "the last number")
    assert told[-1] == (numbers[-1], 3), "counted first, told then"
    assert numbers[0] > 0


async def test_a_second_word_on_a_record_is_ignored(tmp_path: Path):
    coordinator = CountingCoordinator()
    async with running(spool_in(tmp_path)) as spool, delivering(spool, coordinator):
        (number,) = await recorded_and_seen(spool, 1)
        spool.seen(number, UsageCause.REVOKED)
        await wait_until_async(lambda: coordinator.counted, 5, "the record")
    assert causes(coordinator) == [u.USAGE_CAUSE_COMPLETE]


async def test_a_client_that_never_takes_the_end_holds_up_others_for_a_minute_at_most(
    tmp_path: Path,
):
    now = [0.0]
    coordinator = CountingCoordinator()
    spool = spool_in(tmp_path, now_mono_ms=lambda: now[0])
    async with running(spool), delivering(spool, coordinator):
        stalled = await recorded(spool)
        await recorded_and_seen(spool, 1)
        now[0] += MAX_UNSEEN_MS + 1
        await wait_until_async(lambda: len(coordinator.counted) == 2, 5, "both")
        spool.seen(stalled, UsageCause.COMPLETE)
    assert causes(coordinator) == [u.USAGE_CAUSE_CLIENT_GONE, u.USAGE_CAUSE_COMPLETE]


@pytest.mark.parametrize("seed", range(6))
async def test_lost_repeated_and_missing_answers_count_nothing_twice(tmp_path: Path, seed: int):
    kinds = ["away", "lost", "twice", ""]
    faults = [kinds[(seed * 7 + at * at) % 4] for at in range(40)]
    coordinator = CountingCoordinator(faults=faults)
    async with running(spool_in(tmp_path)) as spool, delivering(spool, coordinator):
        for _ in range(20):
            await recorded_and_seen(spool, 7)
        await wait_until_async(lambda: len(coordinator.counted) == 140, 10, "all of them")
    assert coordinator.traces() == [f"{number:032x}" for number in range(1, 141)]
    assert not coordinator.damaged


async def test_a_killed_run_is_delivered_first_and_its_unfinished_records_say_so(tmp_path: Path):
    spool = spool_in(tmp_path)
    spool.start()
    await recorded_and_seen(spool, 3)
    await wait_until_async(lambda: spool.settled_before() == 4, 5, "the notes in the file")
    await recorded(spool)
    await recorded(spool, usage_record(cause=UsageCause.ENGINE_LOST))
    abandon(spool)
    killed = spool.own.spool_id
    coordinator = CountingCoordinator()
    async with running(spool_in(tmp_path)) as spool:
        await recorded_and_seen(spool, 2)
        async with delivering(spool, coordinator):
            await wait_until_async(lambda: len(coordinator.counted) == 7, 5, "all of both")
        assert spool.stats.lost_ends == 1
        own = spool.own.spool_id
    assert [spool_id for spool_id, _seq in coordinator.counted] == [killed] * 5 + [own] * 2
    complete, lost = u.USAGE_CAUSE_COMPLETE, u.USAGE_CAUSE_AGENT_LOST
    engine = u.USAGE_CAUSE_ENGINE_LOST
    assert causes(coordinator) == [complete] * 3 + [lost, engine] + [complete] * 2
    assert not [path for path in tmp_path.iterdir() if killed in path.name]


async def test_an_old_image_of_the_disk_counts_nothing_twice(tmp_path: Path):
    """Numbers belong to a spool's id, which is new at every start."""
    coordinator = CountingCoordinator()
    spool = spool_in(tmp_path)
    spool.start()
    await recorded_and_seen(spool, 5)
    await wait_until_async(lambda: spool.settled_before() == 6, 5, "the notes in the file")
    image = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.seg")}
    await recorded_and_seen(spool, 5)
    await wait_until_async(lambda: spool.settled_before() == 11, 5, "the notes in the file")
    async with delivering(spool, coordinator):
        await wait_until_async(lambda: len(coordinator.counted) == 10, 5, "all of the first run")
    await spool.close()
    for _ in range(2):
        for path, data in image.items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_bytes(data)
        async with running(spool_in(tmp_path)) as spool, delivering(spool, coordinator):
            before = len(coordinator.counted)
            await recorded_and_seen(spool, 2)
            await wait_until_async(lambda b=before: coordinator.total() == b + 2, 5, "the new ones")
    assert len(coordinator.counted) == 14


async def test_a_coordinator_that_was_put_back_gets_what_is_still_here_and_a_name_for_the_rest(
    tmp_path: Path,
):
    coordinator = CountingCoordinator()
    async with running(spool_in(tmp_path)) as spool, delivering(spool, coordinator):
        for _ in range(40):
            await recorded_and_seen(spool, 10)
        await wait_until_async(lambda: len(coordinator.counted) == 400, 10, "all of them")
        first_here = min(spool.writer.ends)
        assert first_here > 1
        coordinator.counted.clear()
        coordinator.watermarks.clear()
        await recorded_and_seen(spool, 1)
        await wait_until_async(
            lambda: (spool.own.spool_id, 401) in coordinator.counted, 10, "the last"
        )
    numbers = {seq for _spool, seq in coordinator.counted}
    gone = {seq for _spool, seq in coordinator.damaged}
    assert numbers | gone == set(range(1, 402))
    assert not numbers & gone
    assert 401 in numbers
    assert 1 in gone


async def test_a_week_away_loses_nothing_and_keeps_the_order(tmp_path: Path):
    """The clock of the coordinator and of this host take no part in the order."""
    coordinator = CountingCoordinator(away=True)
    clock = itertools.cycle([0, -3_600_000, 31_536_000_000])
    spool = spool_in(tmp_path, now_unix_ms=lambda: NOW_UNIX_MS + next(clock))
    async with running(spool), delivering(spool, coordinator):
        week_ms = 7 * 24 * 3_600_000
        for hour in range(7 * 24):
            began = NOW_UNIX_MS + hour * 3_600_000 + next(clock)
            await recorded_and_seen(spool, 16, began_unix_ms=began)
        assert not coordinator.pushes
        assert spool.stats.delivery_failure == "the coordinator is away"
        await wait_until_async(lambda: spool.stats.waiting > 0, 5, "what waits is shown")
        assert week_ms > 0
        coordinator.away = False
        count = 7 * 24 * 16
        await wait_until_async(lambda: len(coordinator.counted) == count, 20, "the week")
        await wait_until_async(lambda: len(spool.writer.ends) == 1, 5, "the files are deleted")
    assert coordinator.traces() == [f"{number:032x}" for number in range(1, count + 1)]


async def test_records_bound_to_other_zones_leave_as_sums_only(tmp_path: Path):
    coordinator = CountingCoordinator(zone="EU")
    brazil = usage_record(zones=("BR",), cold_path="adapter", cold_us=90_000)
    async with running(spool_in(tmp_path)) as spool:
        numbers = [await recorded(spool, brazil) for _ in range(3)]
        numbers.append(await recorded(spool, usage_record(zones=("BR", "EU"))))
        numbers.append(await recorded(spool))
        for number in numbers:
            spool.seen(number, UsageCause.COMPLETE)
        async with delivering(spool, coordinator):
            await wait_until_async(lambda: 5 in coordinator.watermarks.values(), 5, "all")
        asked = coordinator.pushes[0]
        assert (asked.records, asked.counters) == ([], []), "the zone is asked for first"
        spool_id = spool.own.spool_id
    assert [seq for _spool, seq in coordinator.counted] == [4, 5]
    (line,) = coordinator.counters
    sums = dict(zip(u_sum_names(), line.sums, strict=True))
    assert (sums["requests"], sums["seen"], sums["nano_usd"]) == (3, 3, 3 * brazil.nano_usd)
    ttft = Sketch.from_bytes(line.ttft_sketch)
    assert ttft.count == 3
    assert ttft.quantile(0.5) == pytest.approx(brazil.ttft_us, rel=0.011)
    assert Sketch.from_bytes(line.pace_sketch).count == 3
    assert Sketch.from_bytes(line.cold_sketch).quantile(0.5) == pytest.approx(90_000, rel=0.011)
    kept = [(seq, decode_record(payload)) for _spool, seq, payload in read_kept(tmp_path)]
    assert kept == [(seq, replace(brazil)) for seq in (1, 2, 3)]
    assert {spool for spool, _seq, _payload in read_kept(tmp_path)} == {spool_id}


def u_sum_names() -> tuple[str, ...]:
    from protos.domain.usage_record import SUM_NAMES

    return SUM_NAMES


@pytest.mark.parametrize("zone", ["", "US"])
async def test_a_coordinator_that_does_not_say_its_zone_gets_no_bound_record(
    tmp_path: Path, zone: str
):
    coordinator = CountingCoordinator(zone=zone)
    async with running(spool_in(tmp_path)) as spool:
        await recorded_and_seen(spool, 2, zones=("EU",))
        async with delivering(spool, coordinator):
            await wait_until_async(lambda: coordinator.counters, 5, "the sums")
    assert not coordinator.counted


async def test_shed_requests_are_counted_by_minute_and_delivered(tmp_path: Path):
    now = [NOW_UNIX_MS]
    coordinator = CountingCoordinator()
    spool = spool_in(tmp_path, now_unix_ms=lambda: now[0])
    async with running(spool), delivering(spool, coordinator):
        for _ in range(3):
            spool.shed("acme", "acme/chat", "acme/llama@1", "realtime")
        spool.shed("other", "other/chat", "other/llama@1", "standard")
        await recorded_and_seen(spool, 1)
        await wait_until_async(lambda: coordinator.counted, 5, "the record")
        assert not coordinator.counters, "the minute has not ended"
        now[0] += 60_000
        await wait_until_async(lambda: len(coordinator.counters) == 2, 5, "the counts")
    shed = {line.account: line.sums[-1] for line in coordinator.counters}
    assert shed == {"acme": 3, "other": 1}
    assert {line.minute_unix_ms for line in coordinator.counters} == {
        NOW_UNIX_MS - NOW_UNIX_MS % 60_000
    }


async def test_a_clean_stop_delivers_the_rest_and_leaves_nothing(tmp_path: Path):
    coordinator = CountingCoordinator()
    spool = spool_in(tmp_path)
    spool.start()
    async with delivering(spool, coordinator) as shipper:
        await recorded_and_seen(spool, 3)
        spool.shed("acme", "acme/chat", "acme/llama@1", "realtime")
        await spool.close()
        await shipper.hurry(5.0)
    assert len(coordinator.counted) == 3
    assert len(coordinator.counters) == 1
    assert list(tmp_path.iterdir()) == []


async def test_a_large_fleet_is_asked_to_send_less_often_and_a_clean_stop_does_not_wait_for_that(
    tmp_path: Path,
):
    coordinator = CountingCoordinator(pause_ms=3_600_000.0)
    spool = spool_in(tmp_path)
    spool.start()
    async with delivering(spool, coordinator) as shipper:
        await recorded_and_seen(spool, 1)
        await wait_until_async(lambda: coordinator.total() == 1, 5, "the first")
        pushes = len(coordinator.pushes)
        await recorded_and_seen(spool, 3)
        await asyncio.sleep(0.1)  # a hundred times the configured pause
        assert len(coordinator.pushes) == pushes
        await spool.close()
        await shipper.hurry(5.0)
    assert coordinator.total() == 4


async def test_with_a_coordinator_that_takes_no_usage_records_wait_and_their_age_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """As one of the version before: one line in the log, and all is delivered later."""
    coordinator = CountingCoordinator(away=True)
    async with running(spool_in(tmp_path)) as spool, delivering(spool, coordinator):
        await recorded_and_seen(spool, 2)
        await wait_until_async(lambda: spool.stats.waiting == 2, 5, "both wait")
        first_s = spool.stats.oldest_s(now_mono_ms())
        await wait_until_async(
            lambda: spool.stats.oldest_s(now_mono_ms()) > first_s + 0.05, 5, "their age grows"
        )
        assert len([one for one in caplog.messages if "wait on disk" in one]) == 1
        coordinator.away = False
        await wait_until_async(lambda: spool.stats.oldest_s(now_mono_ms()) == 0.0, 5, "counted")
    assert coordinator.total() == 2


async def test_a_spool_of_an_earlier_run_that_waits_is_as_old_as_its_first_record(tmp_path: Path):
    async with running(spool_in(tmp_path)) as spool:
        await recorded_and_seen(spool, 1, began_unix_ms=NOW_UNIX_MS - 7_200_000)
        abandon(spool)
    coordinator = CountingCoordinator(away=True)
    async with running(spool_in(tmp_path)) as later, delivering(later, coordinator):
        await wait_until_async(lambda: later.stats.oldest_s(now_mono_ms()) > 7_000, 5, "its age")
        assert later.stats.older_spools == 1


async def test_a_stop_without_a_coordinator_does_not_wait(tmp_path: Path):
    coordinator = CountingCoordinator(away=True)
    spool = spool_in(tmp_path)
    spool.start()
    async with delivering(spool, coordinator) as shipper:
        await recorded_and_seen(spool, 3)
        await spool.close()
        await wait_until_async(lambda: spool.stats.delivery_failure, 5, "the coordinator is away")
        await asyncio.wait_for(shipper.hurry(60.0), 5)
    assert [path for path in tmp_path.iterdir() if spool.own.spool_id in path.name]


async def test_counts_of_shed_requests_wait_for_space_and_are_not_counted_twice(tmp_path: Path):
    coordinator = CountingCoordinator()
    spool = spool_in(tmp_path)
    async with running(spool):
        for _ in range(3):
            spool.shed("acme", "acme/chat", "acme/llama@1", "realtime")
        free, spool._free_bytes = spool._free_bytes, 0
        for _ in range(4):
            spool.flush_shed(all_minutes=True)
        assert spool.last_seq == 0
        spool._free_bytes = free
        async with delivering(spool, coordinator):
            spool.flush_shed(all_minutes=True)
            await wait_until_async(lambda: coordinator.counters, 5, "the counts")
    assert [line.sums[-1] for line in coordinator.counters] == [3]


async def test_a_damaged_note_of_this_run_costs_a_cause_and_holds_up_nothing(tmp_path: Path):
    coordinator = CountingCoordinator()
    async with running(spool_in(tmp_path)) as spool:
        await recorded_and_seen(spool, 2)
        await wait_until_async(lambda: spool.settled_before() == 3, 5, "the notes in the file")
        path, end = spool.own.segment(1), spool.writer.ends[1]
        data = bytearray(path.read_bytes())
        data[end - 1] ^= 1
        path.write_bytes(data)
        await recorded_and_seen(spool, 1)
        async with delivering(spool, coordinator):
            await wait_until_async(lambda: len(coordinator.counted) == 3, 5, "all three")
        assert spool.stats.lost_ends == 2
        assert len(spool.stats.quarantined) == 1
    lost, complete = u.USAGE_CAUSE_AGENT_LOST, u.USAGE_CAUSE_COMPLETE
    assert causes(coordinator) == [lost, lost, complete]
    assert not coordinator.damaged


async def test_damage_is_named_in_the_status_and_kept(tmp_path: Path, caplog):
    coordinator = CountingCoordinator()
    async with running(spool_in(tmp_path)) as spool:
        await recorded_and_seen(spool, 3)
        path = spool.own.segment(1)
        data = bytearray(path.read_bytes())
        at = data.index(f"{2:032x}".encode())
        data[at] ^= 1
        path.write_bytes(data)
        async with delivering(spool, coordinator):
            await wait_until_async(lambda: 3 in coordinator.watermarks.values(), 5, "all three")
        assert spool.stats.damaged == 1
        (said,) = spool.stats.quarantined
        assert said.endswith("records 2")
        assert "records=2" in caplog.text
        (kept,) = (tmp_path / "quarantine").iterdir()
        assert bytes(data[at : at + 32]) in kept.read_bytes()
        assert coordinator.damaged == [(spool.own.spool_id, 2)]
    assert sorted(coordinator.numbers()) == [1, 3]


async def test_a_spool_that_cannot_be_read_is_tried_again(tmp_path: Path, monkeypatch):
    coordinator = CountingCoordinator()
    failures = [OSError(5, "Input/output error"), RuntimeError("a bug")]
    take = SpoolReader.take

    def fails_at_first(reader: SpoolReader, *args: int) -> object:
        if failures:
            raise failures.pop(0)
        return take(reader, *args)

    monkeypatch.setattr(SpoolReader, "take", fails_at_first)
    async with running(spool_in(tmp_path)) as spool, delivering(spool, coordinator):
        await recorded_and_seen(spool, 3)
        await wait_until_async(lambda: len(coordinator.counted) == 3, 5, "all three")
        assert not spool.stats.delivery_failure
