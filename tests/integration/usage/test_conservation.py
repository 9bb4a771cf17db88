"""The law of money over random lives of agents: request machines, spools, deliveries, counting.

Product code throughout, but for what a schedule does to it: agents killed between and within
writes, their disks put back, batches lost, repeated, overtaken and replayed.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter, deque
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.request.usage import usage_record
from agent.core.usage_batch import UsageBatch
from agent.link.usage import encode_batch
from agent.spool.batches import make_batch
from agent.spool.disk import Disk
from agent.spool.folders import SpoolFolder, find_spools, make_spool
from agent.spool.reader import SpoolReader
from agent.spool.space import Space
from agent.spool.writer import SpoolWriter
from coordinator.billing import books
from coordinator.rpc.usage_messages import batch_of
from coordinator.usage.group import Outcome
from coordinator.usage.ingest import Ingest
from protos.domain.errors import Overloaded
from protos.domain.pricing import Usage
from protos.domain.spool import CAUSE_CODES, FINAL, NOTE, RECORD, encode_frame, encode_notes
from protos.domain.usage_record import UsageCause, UsageRecord
from protos.v1 import usage_pb2
from protos.wire.usage import decode_record, encode_record
from tests.support.billing_service import billed_fleet
from tests.support.request_world import KEY, TWO, RequestWorld, fleet
from tests.support.usage_fleet import ENROLLED_UNIX_MS, NOW_UNIX_MS

AGENTS = 60
TABLE = fleet(TWO)


def requested(draw: random.Random, trace_id: str) -> UsageRecord:
    """Let one request's machine run to some end, and return its record."""
    world = RequestWorld(TABLE, stream=True, hedge_ratio=1.0)
    world.begin()
    (first,) = world.attempts
    usage = Usage(draw.randint(1, 40), 0, draw.randint(0, 40))
    end = draw.choice(["ends"] * 5 + ["gone", "lost", "cut", "revoked", "failed"])
    if end == "failed":
        while not world.machine.over:
            world.lost(next(reversed(world.attempts)))
    else:
        world.token(first, 5.0)
        if end == "ends":
            world.stream_ends(first, 50.0, usage)
        elif end == "gone":
            world.gone(9.0)
        elif end == "lost":
            world.lost(first, 9.0, status=200)
        elif end == "revoked":
            world.table_changes(KEY, after_ms=9.0)
        else:
            world.cut_short(Overloaded("stopped", "later"), 9.0)
    assert world.machine.over
    record = usage_record(world.log, world.context, "NEAR", 0.0)
    return replace(record, trace_id=trace_id, began_unix_ms=NOW_UNIX_MS - draw.randint(0, 90_000))


class Life:
    """One agent: its disk, the run that writes now, and what it has told its clients."""

    def __init__(self, number: int, folder: Path, draw: random.Random, ingest: Ingest) -> None:
        self.node, self.folder, self.draw = f"n-{number}", folder, draw
        self.ingest = ingest
        #: What clients may have seen, and what the end of it must be called.
        self.answered: dict[str, UsageRecord] = {}
        self.causes: dict[str, UsageCause] = {}
        self.admitted: set[str] = set()
        self.pushed: list[UsageBatch] = []
        self.overtaken = self.torn = 0
        self.start()

    def start(self) -> None:
        """Begin a run: a spool of its own."""
        self.spool = make_spool(self.folder, Disk())
        self.writer = SpoolWriter(
            self.spool.path,
            self.spool.spool_id,
            segment_bytes=4_096,
            headroom_bytes=1,
            space=Space(self.folder, 1 << 30),
            disk=Disk(),
        )
        self.seq = 0
        #: Ends that were said and are in no note yet: number, trace and cause.
        self.said: list[tuple[int, str, UsageCause]] = []
        self.reader = self.reading(self.spool, own=True)

    def reading(self, spool: SpoolFolder, *, own: bool) -> SpoolReader:
        return SpoolReader(
            spool,
            ends=self.writer.ends if own else None,
            quarantine=lambda *_: None,
            next_seq=1 if own else None,
        )

    def write(self, *, torn: bool = False) -> None:
        """Write some records as one group, with the notes that wait; ``torn``: killed within."""
        group = []
        for _ in range(self.draw.randint(1, 4)):
            trace_id = f"{len(self.admitted):024x}{int(self.node[2:]):08x}"
            self.admitted.add(trace_id)
            group.append(requested(self.draw, trace_id))
        first, frames = self.seq + 1, deque()
        for record in group:
            self.seq += 1
            kind = RECORD if record.cause is UsageCause.COMPLETE else RECORD | FINAL
            frame = encode_frame(self.writer.seed, kind, self.seq, encode_record(record))
            frames.append((self.seq, frame))
        if torn:
            self._tear(b"".join(frame for _seq, frame in frames))
            return
        notes = encode_notes([(number, CAUSE_CODES[cause]) for number, _trace, cause in self.said])
        frames.extend((0, encode_frame(self.writer.seed, NOTE, self.seq, note)) for note in notes)
        self.writer.commit(frames, sync=True)
        self.causes.update((trace_id, cause) for _number, trace_id, cause in self.said)
        self.said = []
        for number, record in enumerate(group, first):
            self.answered[record.trace_id] = record
            self.causes[record.trace_id] = record.cause
            if record.cause is not UsageCause.COMPLETE:
                continue
            self.causes[record.trace_id] = UsageCause.AGENT_LOST
            if self.draw.random() < 0.8:
                end = self.draw.choice([UsageCause.COMPLETE, UsageCause.CLIENT_GONE])
                self.said.append((number, record.trace_id, end))

    def _tear(self, data: bytes) -> None:
        """Leave a beginning of ``data`` behind what was written, as a kill within a write does."""
        ends = dict(self.writer.ends)
        self.writer.close()
        if ends:
            self.torn += 1
            with self.spool.segment(max(ends)).open("r+b") as file:
                file.seek(ends[max(ends)])
                file.write(data[: self.draw.randrange(len(data))])

    def killed(self) -> None:
        """End this run without any clean-up, at times within a write, and start again."""
        if self.draw.random() < 0.5:
            self.write(torn=True)
        else:
            self.writer.close()
        self.start()

    async def put_back(self) -> None:
        """Put the disk back to what it was some steps ago; all of it was delivered since."""
        image = self.folder.with_suffix(".image")
        shutil.copytree(self.folder, image)
        self.write()
        self.killed()
        await self.deliver_older()
        self.writer.close()
        shutil.rmtree(self.folder)
        image.rename(self.folder)
        self.start()

    async def deliver_older(self) -> None:
        """Deliver the spools of earlier runs."""
        for spool in find_spools(self.folder):
            if spool != self.spool:
                reader = self.reading(spool, own=False)
                while await self.deliver(reader):
                    pass

    async def deliver(self, reader: SpoolReader | None = None) -> bool:
        """Deliver what comes next, in one batch or in two of which the second comes first."""
        reader = reader or self.reader
        batches = []
        for _ in range(self.draw.choice([1, 1, 2])):
            taken = reader.take(self.draw.randint(1, 6), 1 << 20)
            if taken is not None:
                assert not taken.damaged, "nothing was damaged here"
                batches.append(make_batch(self.spool_of(reader), taken, "")[0])
        if len(batches) == 2 and self.draw.random() < 0.5:
            self.overtaken += (await self.push(batches[1])).refused
        for batch in batches:
            for _ in range(self.draw.choice([1, 1, 1, 2])):  # the answer was lost
                outcome = await self.push(batch)
                assert not outcome.refused
                assert outcome.watermark >= batch.last_seq
            self.pushed.append(batch)
        if self.pushed and self.draw.random() < 0.2:
            await self.push(self.draw.choice(self.pushed))
        return bool(batches)

    def spool_of(self, reader: SpoolReader) -> str:
        return reader.folder.spool_id

    async def push(self, batch: UsageBatch) -> Outcome:
        """Send a batch over the wire's bytes to the coordinator's own counting."""
        message = usage_pb2.UsageBatch.FromString(encode_batch(batch))
        return await self.ingest.push(batch_of(message, self.node, NOW_UNIX_MS, ENROLLED_UNIX_MS))


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_killed_torn_put_back_lost_repeated_and_overtaken_the_sum_is_conserved(
    seed: int, tmp_path: Path
) -> None:
    draw = random.Random(seed)
    async with billed_fleet(tmp_path) as billed:
        billed.clock.unix_ms = NOW_UNIX_MS
        billing = billed.billing
        ingest = Ingest(
            billed.database,
            post=billing.post,
            committed=billing.committed,
            closed_through_unix_ms=billing.closed_through_unix_ms,
        )
        lives = [Life(number, tmp_path / f"n{number}", draw, ingest) for number in range(AGENTS)]
        for _ in range(AGENTS * 8):
            life = draw.choice(lives)
            step = draw.choice(["write"] * 4 + ["deliver"] * 3 + ["killed", "older", "put_back"])
            if step == "write":
                life.write()
            elif step == "killed":
                life.killed()
            elif step == "deliver":
                await life.deliver()
            elif step == "older":
                await life.deliver_older()
            else:
                await life.put_back()
        for life in lives:
            life.killed()
            await life.deliver_older()
            life.writer.close()
        audited = await billed.database.read(books.audit)
        rows = await billed.database.read(
            lambda connection: connection.execute("SELECT payload FROM raw").fetchall()
        )
        quarantined = ingest.counters.quarantined
    assert quarantined == 0
    assert audited.problems == []
    counted = {}
    for (payload,) in rows:
        record = decode_record(payload)
        assert record.trace_id not in counted, "billed once"
        counted[record.trace_id] = record
    answered = {trace_id: one for life in lives for trace_id, one in life.answered.items()}
    admitted = set().union(*(life.admitted for life in lives))
    assert answered.keys() <= counted.keys() <= admitted, "seen <= billed <= admitted"
    for life in lives:
        for trace_id, record in life.answered.items():
            assert counted[trace_id] == replace(record, cause=life.causes[trace_id])
    total = sum(one.nano_usd for one in counted.values())
    sums = (audited.usage_nano_usd, audited.rollup_nano_usd, audited.raw_nano_usd)
    assert sums == (total,) * 3
    causes = Counter(one.cause for one in counted.values())
    assert causes.keys() >= set(UsageCause) - {UsageCause.EMPTY}
    assert sum(life.overtaken for life in lives) > 0
    assert sum(life.torn for life in lives) > 10
