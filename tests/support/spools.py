"""A spool and its delivery to a coordinator in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from agent.clock import now_mono_ms
from agent.core.backoff import BackoffPolicy
from agent.spool.disk import Disk
from agent.spool.shipper import UsageShipper
from agent.spool.spool import UsageSpool
from protos.domain.usage_record import UsageCause, UsageRecord
from tests.support.counting_coordinator import CountingCoordinator
from tests.support.usage_records import usage_record

NOW_UNIX_MS = 1_790_000_000_000
_MIB = 1024 * 1024


def spool_in(folder: Path, disk: Disk | None = None, **options: object) -> UsageSpool:
    """Return a spool of small segments."""
    settings = {
        "quota_bytes": 64 * _MIB,
        "segment_bytes": 64 * 1024,
        "max_in_flight": 16,
        "ingress_pop": "GRU",
        "now_unix_ms": lambda: NOW_UNIX_MS,
    } | options
    return UsageSpool(folder, disk=disk, **settings)


def shipper_of(
    spool: UsageSpool, coordinator: CountingCoordinator, now_unix_ms: int = NOW_UNIX_MS
) -> UsageShipper:
    return UsageShipper(
        spool,
        coordinator.push,
        keep_days=90,
        interval_ms=1.0,
        now_mono_ms=now_mono_ms,
        now_unix_ms=lambda: now_unix_ms,
        draw=lambda: 0.0,
        retry=BackoffPolicy(base_ms=1.0, cap_ms=2.0),
    )


@contextlib.asynccontextmanager
async def running(spool: UsageSpool) -> AsyncIterator[UsageSpool]:
    """Start ``spool``; it is closed at the end."""
    spool.start()
    try:
        yield spool
    finally:
        await spool.close()


async def recorded(spool: UsageSpool, record: UsageRecord | None = None) -> int:
    """Write one record and wait until it is on disk."""
    durable = asyncio.get_running_loop().create_future()
    spool.reserve()
    number = spool.record(record or usage_record(), lambda: durable.set_result(None))
    await durable
    return number


async def recorded_and_seen(
    spool: UsageSpool, count: int, cause: UsageCause = UsageCause.COMPLETE, **changes: object
) -> list[int]:
    """Write ``count`` records, whose trace ids are their numbers, together."""
    loop = asyncio.get_running_loop()
    waits, numbers = [], []
    for _ in range(count):
        durable = loop.create_future()
        spool.reserve()
        record = usage_record(trace_id=f"{spool.last_seq + 1:032x}", **changes)
        numbers.append(spool.record(record, lambda durable=durable: durable.set_result(None)))
        waits.append(durable)
    await asyncio.gather(*waits)
    for number in numbers:
        spool.seen(number, cause)
    return numbers


@contextlib.asynccontextmanager
async def delivering(
    spool: UsageSpool, coordinator: CountingCoordinator
) -> AsyncIterator[UsageShipper]:
    """Deliver what ``spool`` and its folder hold, until the end of the block."""
    shipper = shipper_of(spool, coordinator)
    task = asyncio.get_running_loop().create_task(shipper.run())
    try:
        yield shipper
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def abandon(spool: UsageSpool) -> None:
    """Leave the spool as a killed agent does: nothing more is written."""
    spool.commit.close(5.0, flush=False)
