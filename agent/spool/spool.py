"""The spool that this run of the agent writes: reservations, group commit, notes.

The event loop hands frames to one thread, which writes all that wait with one write and one sync;
what comes during a sync is the next group. docs/decisions/0055-spool.md
"""

from __future__ import annotations

import asyncio
import errno
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.clock import now_mono_ms
from agent.spool.commit import GroupCommit
from agent.spool.disk import Disk
from agent.spool.folders import find_spools, make_spool, trim_spool
from agent.spool.shed import ShedCounts
from agent.spool.space import Space
from agent.spool.stats import SpoolStats
from agent.spool.writer import SpoolWriter
from protos.domain.errors import ConfigInvalid, StorageFull
from protos.domain.spool import (
    CAUSE_CODES,
    COUNTER,
    FINAL,
    MAX_PAYLOAD_BYTES,
    RECORD,
    ZONED,
    encode_frame,
)
from protos.domain.usage_record import UsageCause
from protos.wire.usage import encode_counters, encode_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.spool.commit import Waiting
    from agent.spool.folders import SpoolFolder
    from protos.domain.resources import SlaTier
    from protos.domain.usage_record import UsageRecord

_log = logging.getLogger(__name__)

#: Space of one record with its note; most take less than half. A larger one uses the headroom.
RESERVED_BYTES = 1_024
NOTE_BYTES = 48
#: Notes wait so long for a record to be written along; then they are written by themselves.
NOTE_DELAY_S = 0.1
#: Of a complete record of which nothing was said for so long, the client takes no end any more.
MAX_UNSEEN_MS = 60_000.0
CLOSE_TIMEOUT_S = 10.0

_FULL = (errno.ENOSPC, errno.EDQUOT)


class UsageSpool:
    """Implements ``UsageMeter``. All but the thread's own methods are for the event loop."""

    def __init__(
        self,
        folder: Path,
        *,
        quota_bytes: int,
        segment_bytes: int,
        max_in_flight: int,
        ingress_pop: str,
        now_unix_ms: Callable[[], int],
        now_mono_ms: Callable[[], float] = now_mono_ms,
        disk: Disk | None = None,
    ) -> None:
        self.folder = folder
        self.disk = disk or Disk()
        self.space = Space(folder, quota_bytes)
        self.stats = SpoolStats(quota_bytes=quota_bytes)
        self._segment_bytes = segment_bytes
        self._headroom_bytes = segment_bytes + max_in_flight * RESERVED_BYTES
        self._now_unix_ms = now_unix_ms
        self._now_mono_ms = now_mono_ms
        self._shed = ShedCounts(ingress_pop)
        self.own: SpoolFolder | None = None
        self.writer: SpoolWriter | None = None
        #: Set once this run's spool is on disk.
        self.opened = asyncio.Event()
        self._seed = 0
        #: The last number given, and the last that is on disk.
        self.last_seq = self.durable_seq = 0
        #: Bytes reserved or waiting to be written, and bytes allocated on disk.
        self._taken_bytes = self._free_bytes = 0
        #: Complete records of which nothing was said yet, with the time they were on disk.
        self._unseen: dict[int, float] = {}
        self._note_timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.commit = GroupCommit(
            self._open,
            now_mono_ms=now_mono_ms,
            on_committed=self._committed,
            on_state=self._writer_state,
            on_broken=self._broken,
        )

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make this run's spool and start the thread. Raises: ConfigInvalid.

        On a full disk the thread makes it later; until then nothing can be reserved.
        """
        self._loop = asyncio.get_running_loop()
        writer = None
        try:
            writer = self._open()
        except OSError as error:
            if error.errno not in _FULL:
                raise ConfigInvalid(
                    [f"usage.folder: records of usage cannot be kept: {error}"],
                    f"make {self.folder} writable for the agent's user",
                ) from error
            _log.warning("no space for records of usage folder=%s: %s", self.folder, error)
            self.stats.full = str(error)
        if writer is not None:
            self._writer_state(writer, writer.free_bytes)
        self.commit.start(self._loop, writer)

    def _open(self) -> SpoolWriter:
        for older in find_spools(self.folder):
            trim_spool(older, self.disk)
        own = make_spool(self.folder, self.disk)
        writer = SpoolWriter(
            own.path,
            own.spool_id,
            segment_bytes=self._segment_bytes,
            headroom_bytes=self._headroom_bytes,
            space=self.space,
            disk=self.disk,
        )
        writer.prepare()
        self.own, self.writer, self._seed = own, writer, writer.seed
        self.stats.spool_id = own.spool_id
        return writer

    async def close(self) -> None:
        """Write what waits, for a bounded time, and end the thread."""
        if self._loop is None:
            return
        self.flush_shed(all_minutes=True)
        await asyncio.to_thread(self.commit.close, CLOSE_TIMEOUT_S)
        if self._note_timer is not None:
            self._note_timer.cancel()

    # -- UsageMeter ------------------------------------------------------------------------------

    def reserve(self) -> None:
        """Reserve the space of one record. Raises: StorageFull. Hot."""
        taken = self._taken_bytes + RESERVED_BYTES
        if taken > self._free_bytes:
            self.stats.refused += 1
            raise self._full()
        self._taken_bytes = taken

    def release(self) -> None:
        """Give back a reservation."""
        self._taken_bytes -= RESERVED_BYTES

    def record(self, record: UsageRecord, on_durable: Callable[[], None]) -> int:
        """Write ``record`` in a reserved space; return its number. Hot."""
        complete = record.cause is UsageCause.COMPLETE
        kind = RECORD if complete else RECORD | FINAL
        if record.zones:
            kind |= ZONED
        payload = encode_record(record)
        if len(payload) > MAX_PAYLOAD_BYTES:
            # Only what the client chose can be as long as that.
            payload = encode_record(replace(record, service_tier=""))
        number = self._write(kind, payload, on_durable)
        if complete:
            self._unseen[number] = 0.0
        return number

    def seen(self, number: int, cause: UsageCause) -> None:
        """Say how the answer of record ``number`` ended; said once. Hot."""
        if self._unseen.pop(number, None) is None:
            return
        self.commit.say(number, CAUSE_CODES[cause])
        if self._note_timer is None and self._loop is not None:
            self._note_timer = self._loop.call_later(NOTE_DELAY_S, self._write_notes)

    def shed(self, account: str, deployment: str, model: str, sla_tier: SlaTier) -> None:
        """Count a valid request that was refused."""
        self.stats.shed += 1
        self._shed.add(self._now_unix_ms(), account, deployment, model, sla_tier)

    # -- for the shipper -------------------------------------------------------------------------

    def flush_shed(self, *, all_minutes: bool = False) -> None:
        """Write the counts of ended minutes while there is space; the rest waits."""
        for key, sums in self._shed.take(None if all_minutes else self._now_unix_ms()):
            try:
                self.reserve()
            except StorageFull:
                return
            self._write(COUNTER, encode_counters(key, sums), None)

    def give_up_unseen(self) -> None:
        """Say CLIENT_GONE of records whose client has not taken the end for a minute.

        Records are delivered in order: a client that reads nothing must not hold up all others.
        """
        until = self._now_mono_ms() - MAX_UNSEEN_MS
        late = []
        for number, since in self._unseen.items():
            if number > self.durable_seq or since > until:
                break
            late.append(number)
        for number in late:
            self.seen(number, UsageCause.CLIENT_GONE)

    def settled_before(self) -> int:
        """Return a number such that the ends of all earlier records are in the files; 0: none."""
        if self.commit.noted_count < self.commit.said_count:
            return 0
        return min(next(iter(self._unseen), self.last_seq + 1), self.durable_seq + 1)

    def space_freed(self) -> None:
        """Files were deleted: the thread looks for space at once."""
        self.commit.wake()

    # -- parts of it -----------------------------------------------------------------------------

    def _write(self, kind: int, payload: bytes, on_durable: Callable[[], None] | None) -> int:
        number = self.last_seq = self.last_seq + 1
        frame = encode_frame(self._seed, kind, number, payload)
        self._taken_bytes += len(frame) + NOTE_BYTES - RESERVED_BYTES
        self.stats.waiting += 1
        self.commit.write(number, frame, on_durable)
        return number

    def _write_notes(self) -> None:
        self._note_timer = None
        self.commit.wake()

    def _full(self) -> StorageFull:
        reason = self.stats.full or self.stats.disk_failure or "its next file is being allocated"
        return StorageFull(
            f"this site has no space for records of usage: {reason}",
            "free disk space on that host or raise usage.quota_bytes there; it goes on by itself",
            retry_after_s=5.0,
        )

    def _committed(self, group: list[Waiting], took_ms: float) -> None:
        """A group is on disk: let its answers end."""
        now = self._now_mono_ms()
        unseen = self._unseen
        self._taken_bytes -= sum([len(frame) for _number, frame, _call in group])
        self._taken_bytes -= NOTE_BYTES * len(group)
        self.durable_seq = group[-1][0]
        self.stats.committed(len(group), took_ms)
        for number, _frame, on_durable in group:
            if number in unseen:
                unseen[number] = now
            if on_durable is None:
                continue
            try:
                on_durable()
            except Exception:  # a bug of one request must not hold up the others
                _log.exception("the end of an answer failed record=%d", number)

    def _writer_state(self, writer: SpoolWriter, free_bytes: int) -> None:
        self._free_bytes = free_bytes
        self.opened.set()
        stats = self.stats
        stats.full, stats.disk_failure = writer.full, writer.failure
        stats.failovers = writer.failovers
        stats.suspect_segments = list(writer.suspects)

    def _broken(self, reason: str) -> None:
        self._free_bytes = 0
        self.stats.full = self.stats.disk_failure = f"{reason}; restart the agent"
