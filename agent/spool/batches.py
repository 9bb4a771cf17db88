"""Makes a batch of what was read; records that may not leave their zone become sums."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.core.usage_batch import UsageBatch
from protos.domain.errors import InvalidRequest
from protos.domain.usage_record import UsageKey, UsageSums, add_record, key_of
from protos.wire.sketches import Sketch
from protos.wire.usage import decode_record, encode_counters

if TYPE_CHECKING:
    from agent.spool.reader import Taken
    from protos.domain.usage_record import UsageRecord


@dataclass(slots=True)
class Line:
    """Sums of one key, with sketches of their latencies."""

    sums: UsageSums = field(default_factory=UsageSums)
    ttft: Sketch = field(default_factory=Sketch)
    pace: Sketch = field(default_factory=Sketch)
    cold: Sketch = field(default_factory=Sketch)

    def add(self, record: UsageRecord) -> None:
        """Add one request."""
        add_record(self.sums, record)
        if record.stream and record.ttft_us > 0:
            self.ttft.add(record.ttft_us)
            if record.stream_us > 0 and record.completion_tokens > 1:
                self.pace.add((record.completion_tokens - 1) * 1e6 / record.stream_us)
        if record.cold_path and record.cold_us > 0:
            self.cold.add(record.cold_us)

    def encoded(self, key: UsageKey) -> bytes:
        """Return the line as it is sent."""
        return encode_counters(
            key,
            self.sums,
            ttft_sketch=self.ttft.to_bytes(),
            pace_sketch=self.pace.to_bytes(),
            cold_sketch=self.cold.to_bytes(),
        )


def make_batch(
    spool_id: str, taken: Taken, zone: str
) -> tuple[UsageBatch, list[tuple[int, bytes]]]:
    """Return the batch, and the records of it that stay here: bound to zones without ``zone``."""
    batch = UsageBatch(
        spool_id,
        taken.first_seq,
        taken.last_seq,
        damaged=list(taken.damaged),
        damaged_bytes=taken.damaged_bytes,
    )
    lines: dict[UsageKey, Line] = {}
    stay: list[tuple[int, bytes]] = []
    for seq, is_counter, zoned, payload in taken.entries:
        if is_counter:
            batch.counters.append(payload)
        elif not zoned:
            batch.records.append((seq, payload))
        else:
            try:
                record = decode_record(payload)
            except InvalidRequest:  # written by a newer agent: unknown here, so it may not leave
                batch.damaged.append(seq)
                stay.append((seq, payload))
                continue
            if zone and zone in record.zones:
                batch.records.append((seq, payload))
                continue
            lines.setdefault(key_of(record), Line()).add(record)
            stay.append((seq, payload))
    batch.counters += [line.encoded(key) for key, line in lines.items()]
    return batch, stay
