"""Usage records that one coordinator counts with SQLite: decoded, checked, stored, summed, posted.

make bench BENCH=ingest

The process has one core. It reads batches as they come from the network (without the TLS and
HTTP/2 around them) and is given the next one when one is committed, as agents do.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
import time
from pathlib import Path

from coordinator import clock
from coordinator.rpc.usage_messages import batch_of
from protos.v1 import usage_pb2
from protos.wire.usage import encode_record
from tests.bench.report import write_report
from tests.support.usage_fleet import DAY_MS, ingesting, pop_of, record, view

NODES, POPS, ACCOUNTS, BATCH_RECORDS, IN_FLIGHT = 200, 40, 300, 500, 16


def templates(
    draw: random.Random, accounts: list[str], nodes: list[str], ingress_pop: str
) -> list[bytes]:
    """Return records of one POP's clients, of all accounts and hosts, of this minute."""
    now = clock.now_unix_ms()
    return [
        encode_record(
            record(
                number,
                draw.choice(accounts),
                began_unix_ms=now - draw.randrange(60_000),
                ingress_pop=ingress_pop,
                serving_node=draw.choice(nodes),
                prompt_tokens=draw.randrange(100, 8_000),
                completion_tokens=draw.randrange(2, 1_000),
                ttft_us=int(draw.lognormvariate(10.8, 0.5)),
                stream_us=int(draw.lognormvariate(14.5, 0.8)),
            )
        )
        for number in range(1_000)
    ]


class Spools:
    """Makes the next batch of each node's spool."""

    def __init__(self, draw: random.Random, accounts: list[str], nodes: list[str]) -> None:
        self._draw = draw
        self._payloads = {
            pop: templates(draw, accounts, nodes, pop) for pop in sorted(set(map(pop_of, nodes)))
        }
        self._next = dict.fromkeys(nodes, 1)

    def next_batch(self, node: str) -> bytes:
        """Return a serialised batch."""
        first = self._next[node]
        self._next[node] = first + BATCH_RECORDS
        payloads = self._payloads[pop_of(node)]
        begin = self._draw.randrange(len(payloads) - BATCH_RECORDS)
        return usage_pb2.UsageBatch(
            spool_id=f"{int(node.split('-')[1]):032x}",
            first_seq=first,
            last_seq=first + BATCH_RECORDS - 1,
            records=[
                usage_pb2.SpooledRecord(seq=first + place, record=payload)
                for place, payload in enumerate(payloads[begin : begin + BATCH_RECORDS])
            ],
        ).SerializeToString()


async def measure(path: Path, seconds: float) -> dict[str, object]:
    """Return all figures."""
    draw = random.Random(1)
    nodes = [f"p{number % POPS}-{number}" for number in range(NODES)]
    accounts = [f"a{number}" for number in range(ACCOUNTS)]
    spools = Spools(draw, accounts, nodes)
    # Made before the clock runs: agents make them, not the coordinator.
    ready = {node: [spools.next_batch(node) for _ in range(12)] for node in nodes}
    queue = [(node, one) for turn in range(12) for node in nodes for one in (ready[node][turn],)]
    async with ingesting(path, table=view(accounts=accounts, nodes=nodes)) as (_, ingest):
        enrolled = clock.now_unix_ms() - DAY_MS
        begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
        until_s = begun_s + seconds

        async def ship(sent: list[tuple[str, bytes]]) -> None:
            for node, payload in sent:
                if time.perf_counter() > until_s:
                    return
                message = usage_pb2.UsageBatch.FromString(payload)
                outcome = await ingest.push(batch_of(message, node, clock.now_unix_ms(), enrolled))
                assert outcome.taken == BATCH_RECORDS, outcome

        # A node's batches stay in order: each shipper has nodes of its own.
        await asyncio.gather(
            *(
                ship([one for one in queue if hash_of(one[0]) == place])
                for place in range(IN_FLIGHT)
            )
        )
        wall_s = time.perf_counter() - begun_s
        cpu_s = time.process_time() - begun_cpu_s
        records = ingest.counters.records
        commits = ingest.counters.commits
    size_bytes = sum(one.stat().st_size for one in path.parent.glob("usage.db*"))
    return {
        "records": records,
        "wall_s": round(wall_s, 2),
        "records_per_s": round(records / wall_s),
        "cpu_us_per_record": round(cpu_s * 1e6 / records, 2),
        "records_per_commit": round(records / max(1, commits)),
        "bytes_per_record": round(size_bytes / records),
    }


def hash_of(node: str) -> int:
    """Return the shipper of a node."""
    return int(node.split("-")[1]) % IN_FLIGHT


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=30.0)
    seconds = parser.parse_args().seconds
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(Path(folder) / "usage.db", seconds))
    for name, value in figures.items():
        print(f"{name:>24}  {value}")
    write_report("ingest", figures)


if __name__ == "__main__":
    main()
