"""Raw records that move from the database to the blob store, and what reads both as one."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from coordinator.usage.group import CLOCK_SUSPECT
from coordinator.usage.lines import BEFORE_ALL, RawKey, UsageLine, from_parquet, to_parquet
from protos.domain.errors import StoreUnavailable
from protos.wire.usage import decode_record

if TYPE_CHECKING:
    import sqlite3

    from coordinator.blobs.interface import BlobStore
    from coordinator.usage.database import UsageDatabase

_log = logging.getLogger(__name__)

#: Records of one Parquet file; they leave the database in one transaction.
PART_RECORDS = 100_000
_PAGE_RECORDS = 2_000
_DAY_MINUTES = 1_440
_MINUTE_MS = 60_000
_CHUNK_BYTES = 1024**2
#: Files of exports in memory at once.
_MAX_READERS = 4

_PAGE = (
    "SELECT arrived_minute, spool_id, seq, node, spool, account, raw.began_unix_ms, flags, payload"
    " FROM raw JOIN spools ON spools.id = raw.spool_id"
    " WHERE (arrived_minute, spool_id, seq) > (?, ?, ?) AND arrived_minute < ?"
    " ORDER BY arrived_minute, spool_id, seq LIMIT ?"
)
_ALL_MINUTES = 2**60
_EXPORTS = (
    "SELECT id, day, sha256, size_bytes, records, nano_usd, began_min_unix_ms, began_max_unix_ms,"
    " last_minute, last_spool_id, last_seq, exported_unix_ms FROM exports"
)
_BY_KEY = "ORDER BY last_minute, last_spool_id, last_seq"


@dataclass(frozen=True, slots=True)
class UsageExport:
    """One Parquet file in the blob store; ``day`` is when its records arrived."""

    id: int
    day: str
    sha256: bytes
    size_bytes: int
    records: int
    nano_usd: int
    began_min_unix_ms: int
    began_max_unix_ms: int
    last_key: RawKey
    exported_unix_ms: int


@dataclass(frozen=True, slots=True)
class LineFilter:
    """Which lines are asked for; empty and 0: all. ``until_unix_ms`` is not included."""

    account: str = ""
    deployment: str = ""
    from_unix_ms: int = 0
    until_unix_ms: int = 2**62

    def takes(self, line: UsageLine) -> bool:
        """Return whether ``line`` is asked for."""
        record = line.record
        return (
            self.account in ("", record.account)
            and self.deployment in ("", record.deployment)
            and self.from_unix_ms <= record.began_unix_ms < self.until_unix_ms
        )


class UsageExports:
    """Moves records of past days, and streams them wherever they are."""

    def __init__(self, database: UsageDatabase, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs
        self._named: frozenset[bytes] = frozenset()
        self._readers = asyncio.Semaphore(_MAX_READERS)

    async def start(self) -> None:
        """Read which blobs are ours. Raises: StoreUnavailable."""
        self._named = frozenset(one.sha256 for one in await self.list_all())

    def named(self) -> frozenset[bytes]:
        """Return the digests that the collection of blobs must leave."""
        return self._named

    async def list_all(self) -> list[UsageExport]:
        """Return every export, oldest first."""
        return await self._database.read(
            lambda connection: [_export(row) for row in connection.execute(f"{_EXPORTS} {_BY_KEY}")]
        )

    async def export_before(self, minute: int, now_unix_ms: int) -> int:
        """Move what arrived before ``minute``; return how many records. Raises: StoreUnavailable.

        Each part is written, read back and compared before its records leave the database.
        """
        moved = 0
        while lines := await self._next_part(minute):
            payload = await asyncio.to_thread(to_parquet, lines)
            sha256 = hashlib.sha256(payload).digest()
            async with self._blobs.leased([sha256]):
                await self._blobs.write(sha256, len(payload), _chunks(payload))
                await self._verify(sha256, len(payload))
                self._named |= {sha256}
                move = partial(
                    _move,
                    lines=lines,
                    sha256=sha256,
                    size_bytes=len(payload),
                    now_unix_ms=now_unix_ms,
                )
                await self._database.write(move)
            moved += len(lines)
            _log.info("usage exported records=%d blob=%s", len(lines), sha256.hex())
        return moved

    async def drop_before(self, day: str) -> int:
        """Forget exports of earlier days; their blobs are collected after the grace time."""

        def change(connection: sqlite3.Connection) -> int:
            return connection.execute("DELETE FROM exports WHERE day < ?", (day,)).rowcount

        dropped = await self._database.write(change)
        if dropped:
            await self.start()
        return dropped

    async def lines(self, wanted: LineFilter) -> AsyncIterator[list[UsageLine]]:
        """Yield what is asked for, by arrival, from the blob store and the database.

        Records that are moved meanwhile are neither missed nor repeated: each page is of the first
        export behind the last key, or of the database where there is none.
        """
        after = BEFORE_ALL
        while True:
            export, page, last = await self._database.read(
                partial(_next_page, after=after, wanted=wanted)
            )
            if export is not None:
                async for lines in self._lines_of(export, after, wanted):
                    yield lines
                last = export.last_key
            elif page:
                yield page
            if last == after:
                return
            after = last

    async def _lines_of(
        self, export: UsageExport, after: RawKey, wanted: LineFilter
    ) -> AsyncIterator[list[UsageLine]]:
        if (
            export.began_max_unix_ms < wanted.from_unix_ms
            or export.began_min_unix_ms >= wanted.until_unix_ms
        ):
            return
        # Nothing is yielded while a reader's place is held: a client that reads slowly would keep
        # it from all others. Its file is on disk meanwhile, not in memory.
        with tempfile.TemporaryFile() as file:
            async with self._readers:
                async for chunk in self._blobs.read(export.sha256):
                    file.write(chunk)
                steps = from_parquet(file)
            while True:
                async with self._readers:
                    lines = await asyncio.to_thread(next, steps, None)
                if lines is None:
                    return
                if taken := [one for one in lines if one.key > after and wanted.takes(one)]:
                    yield taken

    async def _next_part(self, minute: int) -> list[UsageLine]:
        """Return the oldest records before ``minute``, of one day."""

        def question(connection: sqlite3.Connection) -> list[UsageLine]:
            (first,) = connection.execute("SELECT min(arrived_minute) FROM raw").fetchone()
            if first is None or first >= minute:
                return []
            end = min(minute, first - first % _DAY_MINUTES + _DAY_MINUTES)
            return _read_lines(connection, BEFORE_ALL, end, PART_RECORDS, LineFilter())[0]

        return await self._database.read(question)

    async def _verify(self, sha256: bytes, size_bytes: int) -> None:
        """Raises: StoreUnavailable when the blob store does not return what it was given."""
        digest, received = hashlib.sha256(), 0
        async for chunk in self._blobs.read(sha256):
            digest.update(chunk)
            received += len(chunk)
        if digest.digest() != sha256 or received != size_bytes:
            raise StoreUnavailable(
                f"the blob store returned {received} other bytes for {sha256.hex()}",
                "usage stays in the database; check the blob store",
            )


def _export(row: tuple[Any, ...]) -> UsageExport:
    one, day, sha256, size, records, nano_usd, first, last, *key, exported = row
    minute, spool_id, seq = key
    return UsageExport(
        id=one,
        day=day,
        sha256=sha256,
        size_bytes=size,
        records=records,
        nano_usd=nano_usd,
        began_min_unix_ms=first,
        began_max_unix_ms=last,
        last_key=(minute, spool_id, seq),
        exported_unix_ms=exported,
    )


def _next_page(
    connection: sqlite3.Connection, after: RawKey, wanted: LineFilter
) -> tuple[UsageExport | None, list[UsageLine], RawKey]:
    """Return the first export behind ``after``, or lines of the database and the last key read."""
    row = connection.execute(
        f"{_EXPORTS} WHERE (last_minute, last_spool_id, last_seq) > (?, ?, ?) {_BY_KEY} LIMIT 1",
        after,
    ).fetchone()
    if row is not None:
        return _export(row), [], after
    lines, last = _read_lines(connection, after, _ALL_MINUTES, _PAGE_RECORDS, wanted)
    return None, lines, last


def _read_lines(
    connection: sqlite3.Connection,
    after: RawKey,
    end_minute: int,
    limit: int,
    wanted: LineFilter,
) -> tuple[list[UsageLine], RawKey]:
    """Return those of the next ``limit`` records that are asked for, and the last key."""
    found = []
    for minute, spool_id, seq, node, spool, account, began, flags, payload in connection.execute(
        _PAGE, (*after, end_minute, limit)
    ):
        after = (minute, spool_id, seq)
        if wanted.account not in ("", account):
            continue
        if not wanted.from_unix_ms <= began < wanted.until_unix_ms:
            continue
        record = decode_record(payload)
        told, record.began_unix_ms = record.began_unix_ms, began
        suspect = bool(flags & CLOCK_SUSPECT)
        if wanted.deployment in ("", record.deployment):
            found.append(UsageLine(after, node, spool, record, suspect, told))
    return found, after


def _move(
    connection: sqlite3.Connection,
    lines: Sequence[UsageLine],
    sha256: bytes,
    size_bytes: int,
    now_unix_ms: int,
) -> None:
    """Replace ``lines`` in the database by the export that holds them."""
    began = [one.record.began_unix_ms for one in lines]
    last = lines[-1].key
    removed = connection.execute(
        "DELETE FROM raw WHERE (arrived_minute, spool_id, seq) <= (?, ?, ?)", last
    ).rowcount
    if removed != len(lines):
        raise StoreUnavailable(
            f"{removed} records would leave the database, {len(lines)} were exported",
            "they stay, and are exported again",
        )
    connection.execute(
        "INSERT INTO exports (day, sha256, size_bytes, records, nano_usd, began_min_unix_ms,"
        " began_max_unix_ms, last_minute, last_spool_id, last_seq, exported_unix_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            f"{datetime.fromtimestamp(last[0] * _MINUTE_MS / 1_000, UTC):%F}",
            sha256,
            size_bytes,
            len(lines),
            sum(one.record.nano_usd for one in lines),
            min(began),
            max(began),
            *last,
            now_unix_ms,
        ),
    )


async def _chunks(payload: bytes) -> AsyncIterator[bytes]:
    for offset in range(0, len(payload), _CHUNK_BYTES):
        yield payload[offset : offset + _CHUNK_BYTES]
