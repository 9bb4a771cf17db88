"""What the coordinator promises of usage, in memory: each number of a spool counted once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from agent.core.usage_batch import BatchAnswer, UsageBatch
from protos.domain.errors import LinkDown
from protos.v1 import usage_pb2


@dataclass
class CountingCoordinator:
    """Takes batches in order; ``faults`` are taken one a push: "away", "lost", or "twice"."""

    zone: str = "EU"
    away: bool = False
    #: What it asks agents to wait between batches.
    pause_ms: float = 0.0
    faults: list[str] = field(default_factory=list)
    watermarks: dict[str, int] = field(default_factory=dict)
    #: (spool, seq) to the record.
    counted: dict[tuple[str, int], usage_pb2.UsageRecord] = field(default_factory=dict)
    counters: list[usage_pb2.UsageCounters] = field(default_factory=list)
    damaged: list[tuple[str, int]] = field(default_factory=list)
    pushes: list[UsageBatch] = field(default_factory=list)

    async def push(self, batch: UsageBatch) -> BatchAnswer:
        await asyncio.sleep(0)
        fault = self.faults.pop(0) if self.faults else ""
        if self.away or fault == "away":
            raise LinkDown("the coordinator is away")
        self.pushes.append(batch)
        if fault == "twice":
            self.take(batch)
        answer = self.take(batch)
        if fault == "lost":
            raise LinkDown("the answer was lost")
        return answer

    def take(self, batch: UsageBatch) -> BatchAnswer:
        """Count what is new of ``batch``."""
        mark = self.watermarks.get(batch.spool_id, 0)
        if batch.last_seq < batch.first_seq or batch.last_seq <= mark:
            return BatchAnswer(mark, zone=self.zone)
        if batch.first_seq > mark + 1 or (batch.first_seq <= mark and batch.counters):
            return BatchAnswer(mark, refused=True, reason="a gap", zone=self.zone)
        numbers = [seq for seq, _payload in batch.records] + batch.damaged
        assert len(set(numbers)) == len(numbers)
        if not batch.counters:
            assert sorted(numbers) == list(range(batch.first_seq, batch.last_seq + 1))
        for seq, payload in batch.records:
            if seq > mark:
                assert (batch.spool_id, seq) not in self.counted
                self.counted[batch.spool_id, seq] = usage_pb2.UsageRecord.FromString(payload)
        self.damaged += [(batch.spool_id, seq) for seq in batch.damaged if seq > mark]
        self.counters += [usage_pb2.UsageCounters.FromString(line) for line in batch.counters]
        self.watermarks[batch.spool_id] = batch.last_seq
        return BatchAnswer(batch.last_seq, zone=self.zone, pause_ms=self.pause_ms)

    def traces(self) -> list[str]:
        """Return the trace ids that were counted, in the order of counting."""
        return [record.trace_id for record in self.counted.values()]

    def total(self) -> int:
        return len(self.counted)

    def numbers(self) -> set[int]:
        return {seq for _spool, seq in self.counted}
