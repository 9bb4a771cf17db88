"""Delivers spools to the coordinator: in order, the oldest first, one batch at a time.

A batch is repeated until it is answered; the coordinator counts by number, so that repeating is
harmless. Segments are deleted after the answer that counts all of them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agent.core.backoff import BackoffPolicy, full_jitter_ms
from agent.core.usage_batch import (
    MAX_BATCH_BYTES,
    MAX_BATCH_RECORDS,
    BatchAnswer,
    Next,
    UsageBatch,
    after_answer,
)
from agent.spool.batches import make_batch
from agent.spool.folders import SpoolFolder, find_spools, remove_spool
from agent.spool.kept import KeptRecords
from agent.spool.quarantine import Quarantine
from agent.spool.reader import SpoolReader, Taken
from protos.domain.errors import EdgeForgeError
from protos.wire.usage import decode_record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.spool.spool import UsageSpool

    Push = Callable[[UsageBatch], Awaitable[BatchAnswer]]

_log = logging.getLogger(__name__)

RETRY = BackoffPolicy(base_ms=250.0, cap_ms=60_000.0)
_SHORTEST_PAUSE_MS = 20.0
#: Of what the coordinator may ask for.
_LONGEST_PAUSE_MS = 60_000.0
#: A pause ends so soon once the rest is to be delivered.
_HURRY_CHECK_MS = 1_000.0
#: How often the folder's size is looked up for the status.
_SIZE_INTERVAL_MS = 10_000.0


class UsageShipper:
    """Reads and deletes what ``UsageSpool`` writes, and what earlier runs left."""

    def __init__(
        self,
        spool: UsageSpool,
        push: Push,
        *,
        keep_days: int,
        interval_ms: float,
        now_mono_ms: Callable[[], float],
        now_unix_ms: Callable[[], int],
        draw: Callable[[], float],
        retry: BackoffPolicy = RETRY,
    ) -> None:
        """``now_unix_ms``: of the coordinator's clock. ``push`` raises EdgeForgeError."""
        self._spool = spool
        self._push = push
        self._interval_ms = interval_ms
        self._now_mono_ms = now_mono_ms
        self._now_unix_ms = now_unix_ms
        self._draw = draw
        self._retry = retry
        self._stats = spool.stats
        self._kept = KeptRecords(spool.space, keep_days, spool.disk)
        self._quarantine = Quarantine(spool.space, spool.stats, spool.disk)
        #: Where the coordinator keeps records; None: it has not answered yet.
        self._zone: str | None = None
        self._own_counted = 0
        self._hurries = False
        self._asked_pause_ms = 0.0
        #: Called with the number up to which records of this run are counted.
        self.on_counted: Callable[[int], None] = _nothing
        self._sized_mono_ms = float("-inf")
        self._stats.counted_mono_ms = self._stats.older_since_mono_ms = now_mono_ms()

    async def run(self) -> None:
        """Deliver until cancelled."""
        await self._spool.opened.wait()  # for as long as its disk is full
        while True:
            try:
                await self._deliver_all()
            except Exception as error:  # a bug must not end delivery for good
                _log.exception("delivery of usage failed")
                await self._failed(f"a bug: {error!r}", 4)

    async def _deliver_all(self) -> None:
        own = self._spool.own
        assert own is not None
        older = [one for one in find_spools(self._spool.folder) if one.spool_id != own.spool_id]
        for left, folder in enumerate(older):
            self._stats.older_spools = len(older) - left
            await self._deliver_spool(folder, own=False)
        self._stats.older_spools = 0
        await self._deliver_spool(own, own=True)

    async def hurry(self, timeout_s: float) -> None:
        """Nothing more is written: deliver the rest at once, while the coordinator takes it.

        A spool that was delivered whole is deleted.
        """
        self._hurries = True
        own, until = self._spool.own, self._now_mono_ms() + timeout_s * 1_000
        if own is None:
            return
        while not self._stats.delivery_failure and self._now_mono_ms() < until:
            if self._own_counted >= self._spool.last_seq and not self._stats.older_spools:
                await asyncio.to_thread(remove_spool, own, self._spool.disk)
                return
            await asyncio.sleep(_SHORTEST_PAUSE_MS / 1_000)

    async def _deliver_spool(self, folder: SpoolFolder, *, own: bool) -> None:
        """Deliver one spool to its end; this run's own has none."""
        reader = self._reader(folder, own=own)
        sought = False
        while True:
            taken_mono_ms = self._now_mono_ms()
            try:
                taken = await self._take(reader, own=own)
            except OSError as error:
                await self._failed(f"the spool cannot be read: {error}", 1)
                reader = self._reader(folder, own=own, next_seq=reader.next_seq)
                continue
            if taken is None and own:
                self._stats.counted_mono_ms = taken_mono_ms
            if taken is None and not own:
                await self._finish(reader)
                return
            if taken is not None:
                batch, stay = await self._batch(folder, taken)
                if not own:
                    self._note_age(batch)
                answer = await self._send(batch)
                following = after_answer(batch, answer, sought=sought)
                if following is Next.GO_ON:
                    sought = False
                    await self._counted(reader, batch, stay, taken, taken_mono_ms)
                else:
                    sought = True
                    await self._refused(batch, answer, following)
                    reader = self._reader(folder, own=own, next_seq=answer.watermark + 1)
                    continue
            if own and (taken is None or not taken.more):
                await self._pause()

    async def _pause(self) -> None:
        """Wait as long as is configured, or as the coordinator asked; until the end is hurried."""
        left_ms = max(self._interval_ms, min(self._asked_pause_ms, _LONGEST_PAUSE_MS))
        while left_ms > 0.0 and not self._hurries:
            step_ms = min(left_ms, _HURRY_CHECK_MS)
            await asyncio.sleep(step_ms / 1_000)
            left_ms -= step_ms
        if self._hurries:
            await asyncio.sleep(_SHORTEST_PAUSE_MS / 1_000)

    def _reader(
        self, folder: SpoolFolder, *, own: bool, next_seq: int | None = None
    ) -> SpoolReader:
        writer = self._spool.writer
        assert writer is not None
        return SpoolReader(
            folder,
            ends=writer.ends if own else None,
            quarantine=self._quarantine.keep,
            next_seq=next_seq or (1 if own else None),
        )

    async def _take(self, reader: SpoolReader, *, own: bool) -> Taken | None:
        self._spool.flush_shed()
        self._spool.give_up_unseen()
        settled = self._spool.settled_before() if own else 0
        return await asyncio.to_thread(reader.take, MAX_BATCH_RECORDS, MAX_BATCH_BYTES, settled)

    async def _batch(
        self, folder: SpoolFolder, taken: Taken
    ) -> tuple[UsageBatch, list[tuple[int, bytes]]]:
        if self._zone is None and any(zoned for _seq, _counter, zoned, _bytes in taken.entries):
            # Nothing bound to a zone leaves before the coordinator has said where it is.
            await self._send(UsageBatch(folder.spool_id, taken.first_seq, taken.first_seq - 1))
        return await asyncio.to_thread(make_batch, folder.spool_id, taken, self._zone or "")

    async def _send(self, batch: UsageBatch) -> BatchAnswer:
        """Send a batch until it is answered."""
        failures = 0
        while True:
            try:
                answer = await self._push(batch)
            except EdgeForgeError as error:
                failures += 1
                await self._failed(str(error), failures, (error.retry_after_s or 0.0) * 1_000)
                continue
            if self._stats.delivery_failure:
                _log.info("records of usage are delivered again")
                self._stats.delivery_failure = ""
            self._zone, self._asked_pause_ms = answer.zone, answer.pause_ms
            return answer

    async def _failed(self, reason: str, failures: int, at_least_ms: float = 0.0) -> None:
        if not self._stats.delivery_failure:
            _log.warning("records of usage wait on disk reason=%s", reason)
        self._stats.delivery_failure = reason
        self._note_waiting()
        self._spool.flush_shed()
        self._spool.give_up_unseen()
        await self._note_size()
        pause_ms = full_jitter_ms(self._retry, failures, self._draw())
        pause_ms = max(pause_ms, _SHORTEST_PAUSE_MS, min(at_least_ms, self._retry.cap_ms))
        await asyncio.sleep(pause_ms / 1_000)

    async def _refused(self, batch: UsageBatch, answer: BatchAnswer, following: Next) -> None:
        _log.warning(
            "the coordinator counts from %d on, not %d to %d spool=%s reason=%s",
            answer.watermark + 1,
            batch.first_seq,
            batch.last_seq,
            batch.spool_id,
            answer.reason,
        )
        if following is Next.SEEK_LATER:
            await self._failed(answer.reason or "a batch was refused", 8)

    async def _counted(
        self,
        reader: SpoolReader,
        batch: UsageBatch,
        stay: list[tuple[int, bytes]],
        taken: Taken,
        taken_mono_ms: float,
    ) -> None:
        """All of the batch is counted: keep what stays here, and delete segments."""
        stats = self._stats
        stats.delivered += batch.last_seq - batch.first_seq + 1
        stats.damaged += len(batch.damaged)
        if reader.folder == self._spool.own:
            self._own_counted = batch.last_seq
            stats.counted_mono_ms = taken_mono_ms
            self.on_counted(batch.last_seq)
        stats.lost_ends += taken.lost_ends
        while stay:
            try:
                await asyncio.to_thread(self._kept.keep, batch.spool_id, stay, self._now_unix_ms())
                break
            except OSError as error:
                await self._failed(f"records of this zone cannot be kept: {error}", 4)
        await asyncio.to_thread(self._delete, reader, batch.last_seq)
        self._note_waiting()
        await self._note_size()

    def _delete(self, reader: SpoolReader, watermark: int) -> None:
        """Delete segments of which everything is counted."""
        writer = self._spool.writer
        assert writer is not None
        while reader.read_through and reader.read_through[0][1] <= watermark:
            index, _last = reader.read_through.pop(0)
            try:
                self._spool.disk.remove(reader.folder.segment(index))
            except OSError as error:
                _log.warning("a delivered segment cannot be deleted: %s", error)
            if reader.folder == self._spool.own:
                writer.ends.pop(index, None)
            self._spool.space_freed()

    async def _finish(self, reader: SpoolReader) -> None:
        """A spool of an earlier run is delivered."""
        try:
            await asyncio.to_thread(remove_spool, reader.folder, self._spool.disk)
        except OSError as error:
            _log.warning("a delivered spool cannot be deleted: %s", error)
        _log.info("a spool of an earlier run is delivered spool=%s", reader.folder.spool_id)
        self._spool.space_freed()

    def _note_age(self, batch: UsageBatch) -> None:
        """Note the age of a spool of an earlier run, from its first record that is not counted."""
        if batch.records:
            began_unix_ms = decode_record(batch.records[0][1]).began_unix_ms
            age_ms = max(0, self._now_unix_ms() - began_unix_ms)
            self._stats.older_since_mono_ms = self._now_mono_ms() - age_ms

    def _note_waiting(self) -> None:
        self._stats.waiting = max(0, self._spool.last_seq - self._own_counted)

    async def _note_size(self) -> None:
        now = self._now_mono_ms()
        if now - self._sized_mono_ms > _SIZE_INTERVAL_MS:
            self._sized_mono_ms = now
            self._stats.used_bytes = await asyncio.to_thread(self._spool.space.used_bytes)


def _nothing(_number: int) -> None:
    return None
