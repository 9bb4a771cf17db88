"""Usage records that one coordinator counts with SQLite: decoded, checked, stored, summed, posted.

make bench BENCH=ingest

The process has one core, and all that a coordinator does with a record: sums by minute and day,
sketches, key uses, lines of invoices, the ledger, credits of a third of the accounts, and a synced
commit. It reads batches as they come from the network (without the TLS and HTTP/2 around them) and
is given the next one when one is committed, as agents do.
``records_per_s_last`` is of the last quarter of the time, ``check_us_per_record`` what `edgeforge
ledger check` takes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from coordinator import clock
from coordinator.billing import account_credits, books, customers
from coordinator.billing.account_credits import NewCredit
from coordinator.billing.billing import Billing
from coordinator.billing.customers import BilledAccount
from coordinator.core.grants import CreditKind
from coordinator.core.usage_checks import KnownFleet
from coordinator.rpc.usage_messages import batch_of
from coordinator.store.store import Store
from coordinator.usage.database import UsageDatabase
from coordinator.usage.ingest import Ingest
from protos.domain.fleet_view import FleetView
from protos.v1 import usage_pb2
from protos.wire.usage import encode_record
from tests.bench.report import write_report
from tests.support.billing_service import billing_of
from tests.support.usage_fleet import DAY_MS, pop_of, record, view

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
    async with billed(path, accounts, view(accounts=accounts, nodes=nodes)) as (billing, ingest):
        enrolled = clock.now_unix_ms() - DAY_MS
        marks: list[tuple[float, int]] = []
        begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
        until_s = begun_s + seconds

        async def ship(sent: list[tuple[str, bytes]]) -> None:
            for node, payload in sent:
                if time.perf_counter() > until_s:
                    return
                message = usage_pb2.UsageBatch.FromString(payload)
                outcome = await ingest.push(batch_of(message, node, clock.now_unix_ms(), enrolled))
                assert outcome.taken == BATCH_RECORDS, outcome
                marks.append((time.perf_counter() - begun_s, ingest.counters.records))

        # A node's batches stay in order: each shipper has nodes of its own.
        await asyncio.gather(
            *(
                ship([one for one in queue if hash_of(one[0]) == place])
                for place in range(IN_FLIGHT)
            )
        )
        wall_s = time.perf_counter() - begun_s
        cpu_s = time.process_time() - begun_cpu_s
        assert wall_s > 0.9 * seconds, "the queue was empty before the time was over"
        begun_check_s = time.process_time()
        audited = await billing.database.read_apart(books.audit)
        assert audited.problems == []
        check_s = time.process_time() - begun_check_s
        assert audited.raw_nano_usd == audited.usage_nano_usd > 0
        records = ingest.counters.records
        commits = ingest.counters.commits
    size_bytes = sum(one.stat().st_size for one in path.parent.glob("usage.db*"))
    return {
        "records": records,
        "wall_s": round(wall_s, 2),
        "records_per_s": round(records / wall_s),
        "records_per_s_last": last_rate(marks, wall_s),
        "cpu_us_per_record": round(cpu_s * 1e6 / records, 2),
        "check_us_per_record": round(check_s * 1e6 / records, 2),
        "records_per_commit": round(records / max(1, commits)),
        "bytes_per_record": round(size_bytes / records),
    }


def last_rate(marks: list[tuple[float, int]], wall_s: float) -> int:
    """Return the records a second over the last quarter of the time."""
    at_s, counted = next(one for one in marks if one[0] >= 0.75 * wall_s)
    return round((marks[-1][1] - counted) / (marks[-1][0] - at_s))


@contextlib.asynccontextmanager
async def billed(
    path: Path, accounts: list[str], table: FleetView
) -> AsyncIterator[tuple[Billing, Ingest]]:
    """Open ingest with billing behind it, as ``coordinator.assembly`` does."""
    store = await Store.open(path.parent / "coordinator.db", now_unix_ms=clock.now_unix_ms)
    database = await UsageDatabase.open(path, clock.now_unix_ms)
    billing = billing_of(database, store, clock.now_unix_ms, now_mono_ms=clock.now_mono_ms)

    def fund(connection: sqlite3.Connection) -> None:
        """A third has a cap, of them half a balance, too."""
        for number, name in enumerate(accounts[::3]):
            known = BilledAccount(name, cap_nano_usd=10**15, prepaid=number % 2 == 0)
            customers.save(connection, known)
            if known.prepaid:
                for _ in range(3):
                    credit = NewCredit(name, CreditKind.PREPAID, 10**13, "bench", "bench")
                    account_credits.give(connection, credit, clock.now_unix_ms())

    await database.write(fund)
    await billing.start()
    ingest = Ingest(
        database,
        post=billing.post,
        committed=billing.committed,
        closed_through_unix_ms=billing.closed_through_unix_ms,
        known=KnownFleet(),
    )
    ingest.saw(table)
    try:
        yield billing, ingest
    finally:
        await database.close()
        await store.close()


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
