"""Fault 11: database locked, disk full. Logged once, retryable, ends by itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
from pathlib import Path

import pytest

from coordinator.store import audit, models, pops
from coordinator.store.records import AuditNote
from coordinator.store.sqlite import migrations, worker
from coordinator.store.sqlite.connection import connect
from coordinator.store.store import Store
from protos.domain.errors import StoreUnavailable
from protos.domain.resources import ModelFile, ResourceType
from tests.support.disks import fill_disk
from tests.support.stores import GRU, IAD, MODEL, SetClock, audited
from tests.support.waiting import wait_until_async


def state_lines(caplog) -> list[tuple[str, str]]:
    return [
        (record.levelname, record.message.split(" thread")[0])
        for record in caplog.records
        if "thread=writer" in record.message
    ]


@contextlib.contextmanager
def locked(database: Path):
    """Hold the write lock from another connection, as a careless backup script does."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextlib.asynccontextmanager
async def busy_writer(store):
    """Keep the writer's thread busy with one job, so that all others wait."""
    begun, over = threading.Event(), threading.Event()

    def work(_tx):
        begun.set()
        over.wait(60)

    job = asyncio.create_task(store.write(work))
    try:
        assert await asyncio.to_thread(begun.wait, 60)
        yield
    finally:
        over.set()
        await job


async def test_a_locked_database_refuses_writes_and_resumes(store, database, caplog):
    caplog.set_level(logging.INFO)
    await store.write(pops.put(GRU))
    before = store.table(ResourceType.TOPOLOGY)
    with locked(database):
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="locked") as caught:
                await store.write(pops.put(IAD))
            assert caught.value.retryable
            assert caught.value.hint
        assert not store.available
        # Agents are still served from memory or by the reader.
        assert store.table(ResourceType.TOPOLOGY) is before
        assert await store.delta_since(ResourceType.TOPOLOGY, "", 0) is not None
        assert await audited(store, 5) == []
        assert state_lines(caplog) == [("ERROR", "database unavailable")]
    # No write is made; the probe notices the change.
    await wait_until_async(lambda: store.available, 30, "the store available again")
    await store.write(pops.put(IAD))
    assert set(store.view().pops) == {"GRU", "IAD"}
    assert state_lines(caplog) == [
        ("ERROR", "database unavailable"),
        ("WARNING", "database available again"),
    ]


async def test_a_lock_shorter_than_the_busy_timeout_is_not_noticed(database, clock, caplog):
    store = await Store.open(database, now_unix_ms=clock, busy_timeout_ms=60_000)
    with locked(database):
        writing = asyncio.ensure_future(store.write(pops.put(GRU)))
        done, _ = await asyncio.wait({writing}, timeout=0.1)
        assert not done
    await writing
    assert state_lines(caplog) == []
    await store.close()


async def test_a_coordinator_that_starts_under_a_lock_serves_its_tables(database, clock):
    store = await Store.open(database, now_unix_ms=clock)
    await store.write(pops.put(GRU))
    await store.close()
    with locked(database):
        again = await Store.open(database, now_unix_ms=clock, busy_timeout_ms=100)
        assert again.view().pops == {"GRU": GRU}
        with pytest.raises(StoreUnavailable, match="locked"):
            await again.write(pops.put(IAD))
    await wait_until_async(lambda: again.available, 30, "the store available again")
    await again.write(pops.put(IAD))
    await again.close()


async def test_a_locked_database_that_needs_a_migration_is_not_changed(
    database, clock, monkeypatch
):
    with monkeypatch.context() as earlier:
        earlier.setattr(migrations, "REGISTRY", dict(list(migrations.REGISTRY.items())[:-1]))
        with contextlib.closing(connect(database)) as connection:
            migrations.migrate(connection, 1)
    with locked(database), pytest.raises(StoreUnavailable, match="locked"):
        await Store.open(database, now_unix_ms=clock, busy_timeout_ms=100)
    again = await Store.open(database, now_unix_ms=clock)
    await again.close()


async def test_the_queue_is_bounded(store):
    store._backend._writer._jobs.maxsize = 4
    async with busy_writer(store):
        waiting = [asyncio.create_task(store.write(pops.put(GRU))) for _ in range(20)]
        await wait_until_async(lambda: sum(one.done() for one in waiting) == 16, 30, "16 refused")
    results = await asyncio.gather(*waiting, return_exceptions=True)
    full = [one for one in results if isinstance(one, StoreUnavailable)]
    assert len(full) == 16
    assert all("4 requests wait" in one.message for one in full)
    assert set(store.view().pops) == {"GRU"}


async def test_jobs_that_waited_too_long_are_refused_without_running(store, monkeypatch):
    async with busy_writer(store):
        in_time = asyncio.create_task(store.write(pops.put(IAD)))
        await asyncio.sleep(0)
        monkeypatch.setattr(worker, "QUEUE_WAIT_LIMIT_MS", 0.0)
        waiting = [asyncio.create_task(store.write(pops.put(GRU))) for _ in range(10)]
        await asyncio.sleep(0)
    await in_time
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all("too slow" in one.message for one in results)
    assert set(store.view().pops) == {"IAD"}


async def test_a_full_database_file(store, caplog):
    """SQLite's own limit gives the error that a full disk gives, everywhere."""
    caplog.set_level(logging.INFO)

    def limit(pages: int):
        return lambda tx: tx.query(f"PRAGMA max_page_count = {pages}")

    ((pages,),) = await store.write(lambda tx: tx.query("PRAGMA page_count"))
    await store.write(limit(pages))
    before = store.table(ResourceType.DEPLOYMENTS)
    many = [ModelFile(f"{number}.json", b"s" * 32, number) for number in range(10_000)]
    with pytest.raises(StoreUnavailable, match="full") as caught:
        await store.write(models.register(MODEL, many))
    assert caught.value.retryable
    assert "free space" in caught.value.hint
    assert store.manifest(MODEL.name) == ()
    assert store.table(ResourceType.DEPLOYMENTS) == before
    await store.write(limit(1_000_000))
    await store.write(models.register(MODEL, many))
    assert len(store.manifest(MODEL.name)) == 10_000
    assert state_lines(caplog)[0] == ("ERROR", "database unavailable")
    assert state_lines(caplog)[-1] == ("WARNING", "database available again")


async def test_a_full_disk(small_disk, caplog):
    caplog.set_level(logging.INFO)
    database = small_disk / "coordinator.db"
    store = await Store.open(database, now_unix_ms=SetClock(), busy_timeout_ms=200)
    await store.write(pops.put(GRU))
    ballast = fill_disk(small_disk)
    for number in range(20):
        with contextlib.suppress(StoreUnavailable):
            await store.write(
                audit.append(AuditNote("operator/ana", "filled", f"{number}", "x" * 1_000))
            )
    many = [ModelFile(f"{number}.json", b"s" * 32, number) for number in range(2_000)]
    with pytest.raises(StoreUnavailable, match="full"):
        await store.write(models.register(MODEL, many))
    assert not store.available
    assert store.manifest(MODEL.name) == ()
    assert state_lines(caplog) == [("ERROR", "database unavailable")]

    ballast.unlink()
    await wait_until_async(lambda: store.available, 30, "the store available again")
    await store.write(pops.put(IAD))
    assert state_lines(caplog) == [
        ("ERROR", "database unavailable"),
        ("WARNING", "database available again"),
    ]
    before = [store.table(one) for one in ResourceType]
    await store.close()
    again = await Store.open(database, now_unix_ms=SetClock())
    assert [again.table(one) for one in ResourceType] == before
    await again.close()
