"""Traces on a real disk: bounded, kept over restarts, and never worth a request."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.traces.keeper import TraceKeeper
from protos.domain.errors import InvalidRequest
from protos.domain.trace import Trace
from protos.v1 import trace_pb2
from protos.wire import trace_from_wire
from tests.support.traces import refused, trace
from tests.support.waiting import wait_until_async


@asynccontextmanager
async def keeping(path: Path, **limits: int) -> AsyncIterator[TraceKeeper]:
    keeper = TraceKeeper(path, **({"max_rows": 1_000, "max_bytes": 64 << 20} | limits))
    keeper.start()
    try:
        yield keeper
    finally:
        await keeper.close()


def make(one: Trace) -> Callable[[], Trace]:
    return lambda: one


async def ids(keeper: TraceKeeper, **asked: object) -> list[int]:
    listed = await keeper.listed(trace_pb2.TraceFilter(**asked))  # type: ignore[arg-type]
    return [int(line.trace_id, 16) for line in listed]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.db"


async def test_what_has_finished_is_found_at_once_and_whole(path: Path) -> None:
    async with keeping(path) as keeper:
        assert await ids(keeper) == []
        keeper.take(make(trace(5)))
        found = await keeper.found(trace(5).trace_id)
        assert found is not None
        assert trace_from_wire(found) == trace(5)
        assert await keeper.found("0" * 32) is None
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_full_ring_lets_the_oldest_go(path: Path) -> None:
    async with keeping(path, max_rows=10) as keeper:
        for number in range(35):
            keeper.take(make(trace(number)))
        assert await ids(keeper, limit=500) == list(range(34, 24, -1))
        assert (keeper.stats.rows, keeper.stats.kept, keeper.stats.dropped) == (10, 35, 0)


async def test_a_ring_full_of_bytes_lets_the_oldest_go(path: Path) -> None:
    async with keeping(path, max_bytes=60_000) as keeper:
        for number in range(300):
            keeper.take(make(trace(number)))
        left = await ids(keeper, limit=500)
        assert left[0] == 299
        assert left == list(range(299, 299 - len(left), -1))
        assert 10 < len(left) < 300
        assert keeper.stats.kept_bytes <= 60_000


async def test_traces_survive_a_restart(path: Path) -> None:
    async with keeping(path) as keeper:
        keeper.take(make(trace(1)))
    async with keeping(path) as keeper:
        keeper.take(make(trace(2)))
        assert await ids(keeper) == [2, 1]
        assert keeper.stats.rows == 2


async def test_lists_are_filtered_ordered_and_paged(path: Path) -> None:
    async with keeping(path) as keeper:
        for number in range(6):
            keeper.take(make(trace(number, first_token_ms=100.0 + (number * 7) % 5)))
        keeper.take(make(trace(6, deployment="other")))
        keeper.take(make(trace(7, budget_ms=100.0)))
        keeper.take(make(refused(8)))
        assert await ids(keeper, deployment="other") == [6]
        assert await ids(keeper, missed=True) == [8, 7]
        slowest = trace_pb2.TRACE_ORDER_SLOWEST
        first = await keeper.listed(trace_pb2.TraceFilter(order=slowest, limit=4))
        felt = [line.felt_ttft_ms for line in first]
        assert felt == sorted(felt, reverse=True)
        cursor = trace_pb2.TraceCursor(value=felt[-1], trace_id=first[-1].trace_id)
        rest = await ids(keeper, order=slowest, limit=500, after=cursor)
        assert len(rest) == 4, "one came to no first token"
        assert not {int(line.trace_id, 16) for line in first} & set(rest)
        with pytest.raises(InvalidRequest):
            await ids(keeper, limit=501)


async def test_a_locked_file_costs_traces_and_nothing_else(path: Path) -> None:
    async with keeping(path) as keeper:
        keeper.take(make(trace(1)))
        assert await ids(keeper) == [1]
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        keeper.take(make(trace(2)))
        await wait_until_async(lambda: keeper.stats.dropped == 1, 20, "the trace to be dropped")
        assert "locked" in keeper.stats.failure
        assert await ids(keeper) == [1], "reading goes on"
        holder.execute("ROLLBACK")
        holder.close()
        keeper.take(make(trace(3)))
        assert await ids(keeper) == [3, 1]
        assert keeper.stats.failure == ""


async def test_a_full_disk_costs_traces_and_nothing_else(path: Path) -> None:
    async with keeping(path, max_bytes=1_000) as keeper:
        await ids(keeper)
        big = trace(1, error="x" * 8_000_000)  # beyond the bound of the file
        keeper.take(make(big))
        await wait_until_async(lambda: keeper.stats.dropped == 1, 20, "the trace to be dropped")
        assert "full" in keeper.stats.failure
        assert keeper.stats.rows == 0


async def test_a_damaged_file_is_set_aside(path: Path) -> None:
    path.write_bytes(b"no database at all" * 1_000)
    async with keeping(path) as keeper:
        keeper.take(make(trace(1)))
        keeper.take(make(trace(2)))
        await wait_until_async(lambda: keeper.stats.failure == "", 20, "a new file")
        keeper.take(make(trace(3)))
        assert 3 in await ids(keeper)
    assert path.with_name("traces.db.damaged").read_bytes().startswith(b"no database")


async def test_more_than_may_wait_is_dropped_and_counted(path: Path) -> None:
    keeper = TraceKeeper(path, max_rows=10, max_bytes=1 << 20, max_pending=3)
    for number in range(5):
        keeper.take(make(trace(number)))
    keeper.start()
    assert await ids(keeper) == [2, 1, 0]
    await keeper.close()
    assert keeper.stats.dropped == 2


async def test_what_was_never_started_can_be_closed(path: Path) -> None:
    await TraceKeeper(path, max_rows=10, max_bytes=1 << 20).close()
    assert not path.exists()


async def test_a_trace_that_cannot_be_made_costs_only_itself(path: Path) -> None:
    def fail() -> Trace:
        raise ValueError("a bug")

    async with keeping(path) as keeper:
        keeper.take(fail)
        keeper.take(make(trace(1)))
        assert await ids(keeper) == [1]
        assert keeper.stats.dropped == 1


async def test_places_are_kept_for_what_failed_or_was_late(path: Path) -> None:
    keeper = TraceKeeper(path, max_rows=10, max_bytes=1 << 20, max_pending=4)
    for number in range(5):
        keeper.take(make(trace(number)))
    keeper.take(make(trace(5)), True)
    keeper.take(make(trace(6)), True)
    keeper.start()
    assert await ids(keeper) == [5, 2, 1, 0]
    await keeper.close()
    assert keeper.stats.dropped == 3


async def test_a_crowd_is_written_in_bounded_batches_and_found_at_once_when_asked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.traces.keeper.MAX_BATCH", 4)
    async with keeping(path) as keeper:
        for number in range(10):
            keeper.take(make(trace(number)))
        await wait_until_async(lambda: keeper.stats.kept > 0, 20, "a first batch")
        assert keeper.stats.kept == 4
        assert len(await ids(keeper)) == 10
