"""Spools written and read without an agent, for what happens to their bytes in between."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from agent.spool.disk import Disk
from agent.spool.folders import SpoolFolder, make_spool
from agent.spool.reader import SpoolReader
from agent.spool.space import Space
from agent.spool.writer import SpoolWriter
from protos.domain.spool import (
    CAUSE_CODES,
    NOTE,
    RECORD,
    Damage,
    Tail,
    encode_frame,
    encode_notes,
)
from protos.domain.usage_record import UsageCause
from protos.wire.usage import decode_record, encode_record
from tests.support.usage_records import usage_record


def written_spool(
    folder: Path, records: int, *, group: int = 3, segment_bytes: int = 8_192
) -> SpoolFolder:
    """Write ``records`` in groups, each with a note that the group before was seen."""
    spool = make_spool(folder, Disk())
    writer = SpoolWriter(
        spool.path,
        spool.spool_id,
        segment_bytes=segment_bytes,
        headroom_bytes=1,
        space=Space(folder, 1 << 30),
        disk=Disk(),
    )
    said: list[tuple[int, int]] = []
    for first in range(1, records + 1, group):
        numbers = range(first, min(first + group, records + 1))
        frames = deque((seq, record_frame(writer.seed, seq)) for seq in numbers)
        notes = encode_notes(said)
        frames.extend((0, encode_frame(writer.seed, NOTE, numbers[-1], note)) for note in notes)
        writer.commit(frames, sync=False)
        said = [(seq, CAUSE_CODES[UsageCause.COMPLETE]) for seq in numbers]
    last = [(0, encode_frame(writer.seed, NOTE, records, note)) for note in encode_notes(said)]
    writer.commit(deque(last), sync=True)
    writer.close()
    return spool


def record_frame(seed: int, seq: int) -> bytes:
    return encode_frame(seed, RECORD, seq, encode_record(usage_record(trace_id=f"{seq:032x}")))


@dataclass
class Read:
    """Everything that one spool gave."""

    numbers: list[int] = field(default_factory=list)
    lost_ends: list[int] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    damaged_bytes: int = 0
    quarantined: list[tuple[int, Damage | Tail, list[int]]] = field(default_factory=list)


def read_spool(spool: SpoolFolder, max_records: int = 4) -> Read:
    """Read a spool to its end; each record has to be the one that was written."""
    read = Read()
    reader = SpoolReader(
        spool,
        quarantine=lambda _spool, index, item, numbers: read.quarantined.append(
            (index, item, numbers)
        ),
    )
    expected = 0
    while (taken := reader.take(max_records, 1 << 20)) is not None:
        assert taken.first_seq == (expected or taken.first_seq)
        expected = taken.last_seq + 1
        numbers = [seq for seq, _counter, _zoned, _payload in taken.entries]
        assert sorted(numbers + taken.damaged) == list(range(taken.first_seq, expected))
        for seq, _counter, _zoned, payload in taken.entries:
            record = decode_record(payload)
            assert record.trace_id == f"{seq:032x}"
            read.numbers.append(seq)
            if record.cause is UsageCause.AGENT_LOST:
                read.lost_ends.append(seq)
            else:
                assert record.cause is UsageCause.COMPLETE
        read.damaged += taken.damaged
        read.damaged_bytes += taken.damaged_bytes
    assert read.numbers == sorted(set(read.numbers)), "each once, in order"
    return read
