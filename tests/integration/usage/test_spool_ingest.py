"""The agent's spool and the coordinator's own counting, by the bytes that go between them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from agent.core.usage_batch import BatchAnswer, UsageBatch
from agent.link.usage import encode_batch
from agent.spool.kept import read_kept
from coordinator.rpc.usage_messages import batch_of
from coordinator.usage.ingest import Ingest
from protos.domain.usage_record import UsageCause
from protos.v1 import usage_pb2
from tests.support import fleets, usage_fleet
from tests.support.counting_coordinator import CountingCoordinator
from tests.support.spools import delivering, recorded, running, spool_in
from tests.support.waiting import wait_until_async

NOW = usage_fleet.NOW_UNIX_MS


class CountedByIngest(CountingCoordinator):
    """Pushes to the coordinator's own ``Ingest``; some answers are lost."""

    def __init__(self, ingest: Ingest, **options: object) -> None:
        super().__init__(**options)
        self._ingest = ingest

    async def push(self, batch: UsageBatch) -> BatchAnswer:
        message = usage_pb2.UsageBatch.FromString(encode_batch(batch))
        outcome = await self._ingest.push(
            batch_of(message, "gru-1", NOW, usage_fleet.ENROLLED_UNIX_MS)
        )
        self.pushes.append(batch)
        answer = BatchAnswer(outcome.watermark, outcome.refused, outcome.reason, self.zone)
        if self.faults and self.faults.pop(0) == "lost":
            return await self.push(batch)
        return answer


async def test_records_and_sums_are_counted_once_by_the_coordinators_own_rules(tmp_path: Path):
    folder = tmp_path / "agent"
    async with usage_fleet.ingesting(tmp_path / "usage.db") as (database, ingest):
        coordinator = CountedByIngest(ingest, zone="EU", faults=["lost", "", "lost", "lost"])
        async with running(spool_in(folder, now_unix_ms=lambda: NOW)) as spool:
            for number in range(1, 31):
                # narrowed by their header alone, so without the surcharge of residency
                zones = ("BR",) if number % 3 == 0 else ()
                record = replace(usage_fleet.record(number), zones=zones)
                seq = await recorded(spool, record)
                spool.seen(seq, UsageCause.COMPLETE)
            spool.shed("acme", "small", fleets.MODEL, "standard")
            spool.flush_shed(all_minutes=True)
            async with delivering(spool, coordinator):
                await wait_until_async(lambda: spool.stats.delivered == 31, 10, "all counted")
        raw = await database.read(
            lambda connection: connection.execute("SELECT count(*) FROM raw").fetchone()[0]
        )
        assert raw == 20
        assert ingest.counters.quarantined == 0
        assert ingest.counters.refused == 0
    assert [seq for _spool, seq, _payload in read_kept(folder)] == list(range(3, 31, 3))
