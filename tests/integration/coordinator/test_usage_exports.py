"""Records of past days move to the blob store, and are read there as if they had stayed."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from coordinator.blobs.folder import FolderStore
from coordinator.sections.usage import UsageSection
from coordinator.usage import exports as exports_module
from coordinator.usage.database import UsageDatabase
from coordinator.usage.exports import LineFilter, UsageExports
from coordinator.usage.ingest import Ingest
from coordinator.usage.lines import UsageLine
from coordinator.usage.upkeep import UsageUpkeep
from protos.domain.errors import StoreUnavailable
from tests.support.usage_fleet import (
    DAY_MS,
    MINUTE_MS,
    NOW_UNIX_MS,
    batch,
    ingesting,
    record,
    view,
)

DAYS = 4


@pytest.fixture
async def usage(tmp_path: Path) -> AsyncIterator[tuple[UsageDatabase, Ingest, UsageExports]]:
    """Records of four days, three of each, of two accounts."""
    blobs = FolderStore.open(tmp_path / "blobs", max_blob_bytes=10_000_000)
    table = view(accounts=("acme", "globex"))
    async with ingesting(tmp_path / "usage.db", table=table) as (database, ingest):
        for day in range(DAYS):
            arrived = NOW_UNIX_MS - (DAYS - 1 - day) * DAY_MS
            three = [
                record(
                    day * 3 + place,
                    ("acme", "globex", "acme")[place],
                    began_unix_ms=arrived - MINUTE_MS,
                )
                for place in range(3)
            ]
            await ingest.push(batch(three, first=day * 3 + 1, arrived_unix_ms=arrived))
        exports = UsageExports(database, blobs)
        await exports.start()
        yield database, ingest, exports


async def read(exports: UsageExports, wanted: LineFilter | None = None) -> list[UsageLine]:
    """Return all lines that are asked for."""
    return [one async for page in exports.lines(wanted or LineFilter()) for one in page]


def upkeep(ingest: Ingest, exports: UsageExports, **section: int) -> UsageUpkeep:
    return UsageUpkeep(ingest, exports, UsageSection(**section), lambda: NOW_UNIX_MS)


async def raw_count(database: UsageDatabase) -> int:
    sql = "SELECT count(*) FROM raw"
    return (await database.read(lambda connection: connection.execute(sql).fetchone()))[0]


async def test_days_that_have_passed_move_and_are_read_as_before(usage):
    database, ingest, exports = usage
    before = await read(exports)
    assert [line.record.trace_id for line in before] == [f"{n:032x}" for n in range(12)]
    assert await upkeep(ingest, exports, raw_days=1).export_due() == 6
    assert await raw_count(database) == 6
    assert [one.day for one in await exports.list_all()] == ["2026-11-25", "2026-11-26"]
    assert await read(exports) == before
    assert await upkeep(ingest, exports, raw_days=1).export_due() == 0


async def test_filters_see_records_wherever_they_are(usage):
    _, ingest, exports = usage
    await upkeep(ingest, exports, raw_days=2).export_due()
    globex = await read(exports, LineFilter(account="globex"))
    assert {line.record.account for line in globex} == {"globex"}
    assert len(globex) == DAYS
    recent = await read(exports, LineFilter(from_unix_ms=NOW_UNIX_MS - DAY_MS - 2 * MINUTE_MS))
    assert len(recent) == 6
    early = await read(exports, LineFilter(until_unix_ms=NOW_UNIX_MS - 3 * DAY_MS))
    assert len(early) == 3
    named = await read(exports, LineFilter(deployment="small-globex"))
    assert len(named) == DAYS


async def test_records_that_move_while_they_are_read_are_neither_missed_nor_repeated(
    usage, monkeypatch: pytest.MonkeyPatch
):
    _, ingest, exports = usage
    monkeypatch.setattr(exports_module, "_PAGE_RECORDS", 2)
    monkeypatch.setattr(exports_module, "PART_RECORDS", 2)
    seen: list[int] = []
    raw_days = DAYS
    async for page in exports.lines(LineFilter()):
        seen += [line.key[2] for line in page]
        raw_days = max(1, raw_days - 1)
        await upkeep(ingest, exports, raw_days=raw_days).export_due()
    assert seen == list(range(1, 13))


async def test_a_parquet_file_holds_every_field_and_any_tool_reads_it(usage, tmp_path: Path):
    _, ingest, exports = usage
    await upkeep(ingest, exports, raw_days=2).export_due()
    [export] = await exports.list_all()
    [path] = [one for one in (tmp_path / "blobs").rglob(export.sha256.hex()) if one.is_file()]
    table = pq.ParquetFile(path).read()
    assert table.num_rows == export.records == 3
    assert sum(table["nano_usd"].to_pylist()) == export.nano_usd
    names = {one.name for one in dataclasses.fields(record())}
    assert names <= set(table.column_names)
    assert {"node", "spool", "seq", "clock_suspect", "told_unix_ms"} <= set(table.column_names)


async def test_what_the_blob_store_does_not_return_stays_in_the_database(
    usage, monkeypatch: pytest.MonkeyPatch
):
    database, ingest, exports = usage

    async def nothing(sha256: bytes, *args: object) -> AsyncIterator[bytes]:
        yield b"other bytes"

    monkeypatch.setattr(exports._blobs, "read", nothing)
    with pytest.raises(StoreUnavailable, match="other bytes"):
        await upkeep(ingest, exports, raw_days=1).export_due()
    assert await raw_count(database) == 12
    assert await exports.list_all() == []
    monkeypatch.undo()
    assert await upkeep(ingest, exports, raw_days=1).export_due() == 6


async def test_exports_are_named_for_the_collection_of_blobs_until_they_end(usage):
    database, ingest, exports = usage
    await upkeep(ingest, exports, raw_days=1).export_due()
    digests = {one.sha256 for one in await exports.list_all()}
    assert exports.named() == digests
    again = UsageExports(database, exports._blobs)
    await again.start()
    assert again.named() == digests
    await upkeep(ingest, exports, raw_days=1, export_days=2).export_due()
    assert [one.day for one in await exports.list_all()] == ["2026-11-26"]
    assert len(exports.named()) == 1


async def test_a_reader_who_stops_reading_keeps_no_other_from_reading(usage, monkeypatch):
    _, ingest, exports = usage
    monkeypatch.setattr(exports_module, "_PAGE_RECORDS", 1)
    assert await upkeep(ingest, exports, raw_days=1).export_due()
    stopped = [exports.lines(LineFilter()) for _ in range(exports_module._MAX_READERS)]
    firsts = [await anext(one) for one in stopped]
    assert all(firsts)
    async with asyncio.timeout(10):
        assert len(await read(exports)) == DAYS * 3
    for one in stopped:
        await one.aclose()
