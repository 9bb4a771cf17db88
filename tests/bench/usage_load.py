"""A coordinator under the usage and quota of 3,000 agents: what it takes of a core.

    make bench BENCH=usage_load
    python -m tests.bench.usage_load [--seconds N] [--ship-s S]

1,323 records a second, which is 800 million a week, from 3,000 spools, each shipped as the agents'
shipper does (a batch whenever there is a record, one at a time, with pauses), and a renewal of
leases by every agent each 3 s. The coordinator's services for both are in a process of their own,
behind mutual TLS, with the table of a fleet of this size. Simulated agents share connections:
25 to one. What their fleet streams cost is not in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import resource
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import grpc
from grpc import aio

from agent.link.channel import COORDINATOR_NAME
from coordinator import clock
from coordinator.billing.posting import post
from coordinator.ca.authority import CertificateAuthority
from coordinator.core.quota_shares import QuotaShares
from coordinator.core.usage_checks import KnownFleet
from coordinator.rpc.identity import IdentityKind
from coordinator.rpc.interceptors import ErrorInterceptor, IdentityInterceptor
from coordinator.rpc.metering import MeteringService
from coordinator.rpc.quota import QuotaService
from coordinator.store.store import Store
from coordinator.usage.database import UsageDatabase
from coordinator.usage.ingest import Ingest
from protos.domain.customers import Account, UsageLimits
from protos.domain.fleet_view import with_changes
from protos.domain.quota import RENEW_MS
from protos.v1 import quota_pb2, usage_pb2
from protos.v1.quota_pb2_grpc import QuotaStub, add_QuotaServicer_to_server
from protos.v1.usage_pb2_grpc import MeteringStub, add_MeteringServicer_to_server
from tests.bench.ingest import templates
from tests.bench.report import quantile, write_report
from tests.support.certificates import p256_key, private_pem, request_der
from tests.support.usage_fleet import DAY_MS, pop_of, view

AGENTS, AGENTS_PER_LINK, POPS, ACCOUNTS = 3_000, 25, 300, 5_000
RECORDS_PER_S = 800e6 / (7 * 86_400)
#: Limits in use at one agent.
ASKS = 4


def node_name(number: int) -> str:
    """Return the name of the certificate of a connection."""
    return f"p{number % POPS}-{number}"


ACCOUNT_NAMES = [f"a{number}" for number in range(ACCOUNTS)]
LINKS = [node_name(number) for number in range(AGENTS // AGENTS_PER_LINK)]


async def _ignore(_note: object) -> None:
    return None


def serve(folder: Path, control: Connection) -> None:
    """Be the coordinator until told to end."""
    asyncio.run(_serve(folder, control))


async def _serve(folder: Path, control: Connection) -> None:
    authority = CertificateAuthority.load(folder / "ca", now_unix_ms=clock.now_unix_ms)
    key, chain = authority.new_coordinator("load")
    server = aio.server(
        interceptors=[
            ErrorInterceptor(),
            IdentityInterceptor(
                {IdentityKind.NODE},
                audit=_ignore,
                now_mono_ms=clock.now_mono_ms,
                is_known=lambda identity: True,
            ),
        ]
    )
    table = view(accounts=ACCOUNT_NAMES, nodes=[node_name(number) for number in range(AGENTS)])
    limited = [Account(one, UsageLimits(100, 60_000, 10**8)) for one in ACCOUNT_NAMES]
    table = with_changes(table, (), limited)
    database = await UsageDatabase.open(folder / "usage.db", clock.now_unix_ms)
    ingest = Ingest(
        database,
        known=KnownFleet(),
        post=lambda connection, deltas: post(connection, deltas, clock.now_unix_ms()),
    )
    ingest.saw(table)
    enrolled = SimpleNamespace(enrolled_unix_ms=clock.now_unix_ms() - DAY_MS)
    metering = MeteringService(
        ingest,
        cast("Store", SimpleNamespace(node_record=lambda node: enrolled)),
        zone="",
        now_mono_ms=clock.now_mono_ms,
        now_unix_ms=clock.now_unix_ms,
    )
    quota = QuotaService(
        QuotaShares(clock.now_unix_ms(), clock.now_mono_ms()),
        lambda: table,
        lambda account: None,
        clock.now_mono_ms,
    )
    add_MeteringServicer_to_server(metering, server)
    add_QuotaServicer_to_server(quota, server)
    port = server.add_secure_port(
        "127.0.0.1:0",
        grpc.ssl_server_credentials([(key, chain)], authority.bundle_pem, require_client_auth=True),
    )
    await server.start()
    control.send(port)
    while (word := await asyncio.to_thread(control.recv)) == "figures":
        used = resource.getrusage(resource.RUSAGE_SELF)
        counters = ingest.counters
        control.send(
            {
                "cpu_s": used.ru_utime + used.ru_stime,
                "rss_mb": _resident_mb(),
                "records": counters.records,
                "batches": counters.batches,
                "commits": counters.commits,
                "quarantined": counters.quarantined,
                "refused": counters.refused,
            }
        )
    assert word == "end"
    await server.stop(None)
    await database.close()


def _resident_mb() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


@dataclass(slots=True)
class Agents:
    """The simulated agents of one connection."""

    number: int
    channel: aio.Channel
    payloads: list[bytes]
    draw: random.Random
    until_s: float
    ship_s: float
    waits_ms: list[float]
    quota_calls: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        places = range(AGENTS_PER_LINK)
        await asyncio.gather(*map(self._ship, places), *map(self._renew, places))

    async def _ship(self, place: int) -> None:
        """A spool: records come by chance, and are shipped with pauses between batches."""
        stub = MeteringStub(self.channel)
        spool = f"{self.number * AGENTS_PER_LINK + place:032x}"
        per_s = RECORDS_PER_S / AGENTS
        first, at_s = 1, time.monotonic()
        await asyncio.sleep(self.draw.random() * self.ship_s)
        while at_s < self.until_s:
            now_s = time.monotonic()
            count = 0
            while (at_s := at_s + self.draw.expovariate(per_s)) < now_s:
                count += 1
            if count:
                batch = usage_pb2.UsageBatch(
                    spool_id=spool,
                    first_seq=first,
                    last_seq=first + count - 1,
                    records=[
                        usage_pb2.SpooledRecord(
                            seq=first + one, record=self.draw.choice(self.payloads)
                        )
                        for one in range(count)
                    ],
                )
                first += count
                await self._push(stub, batch)
                self.waits_ms.append((time.monotonic() - now_s) * 1_000)
            at_s = time.monotonic()
            await asyncio.sleep(self.ship_s)

    async def _push(self, stub: MeteringStub, batch: usage_pb2.UsageBatch) -> None:
        """Send a batch until it is counted."""
        while True:
            try:
                await stub.Push(batch)
                return
            except aio.AioRpcError as error:
                self.failed[error.code().name] += 1
                await asyncio.sleep(self.draw.random() * 0.25)

    async def _renew(self, place: int) -> None:
        """Leases of some accounts, renewed."""
        stub = QuotaStub(self.channel)
        names = self.draw.sample(ACCOUNT_NAMES, ASKS)
        await asyncio.sleep(self.draw.random() * RENEW_MS / 1_000)
        seq = 0
        while time.monotonic() < self.until_s:
            seq += 1
            asks = [
                quota_pb2.LeaseAsk(
                    kind=quota_pb2.QUOTA_KIND_SEQUENCES, account_id=name, in_use=1, held=1, want=2
                )
                for name in names
            ]
            try:
                call = quota_pb2.LeaseRequest(boot_id=f"boot-{place}", seq=seq, asks=asks)
                await stub.Lease(call)
                self.quota_calls += 1
            except aio.AioRpcError as error:
                self.failed[error.code().name] += 1
            await asyncio.sleep(RENEW_MS / 1_000)


async def load(port: int, folder: Path, seconds: float, ship_s: float) -> dict[str, object]:
    """Be all agents, and return what they saw."""
    authority = CertificateAuthority.load(folder / "ca", now_unix_ms=clock.now_unix_ms)
    draw = random.Random(1)
    accounts = draw.sample(ACCOUNT_NAMES, 300)
    waits_ms: list[float] = []
    groups = []
    for number, name in enumerate(LINKS):
        key = p256_key()
        credentials = grpc.ssl_channel_credentials(
            authority.bundle_pem,
            private_pem(key),
            authority.issue_node(name, request_der(key)).pem,
        )
        channel = aio.secure_channel(
            f"127.0.0.1:{port}",
            credentials,
            (
                ("grpc.ssl_target_name_override", COORDINATOR_NAME),
                ("grpc.use_local_subchannel_pool", 1),
            ),
        )
        payloads = templates(draw, accounts, [name], pop_of(name))[:200]
        until_s = time.monotonic() + seconds
        groups.append(Agents(number, channel, payloads, draw, until_s, ship_s, waits_ms))
    for group in groups:
        group.until_s = time.monotonic() + seconds
    await asyncio.gather(*(group.run() for group in groups))
    for group in groups:
        await group.channel.close()
    return {
        "quota_calls": sum(one.quota_calls for one in groups),
        "calls_failed": dict(sum((one.failed for one in groups), Counter())),
        "push_ms_p50": round(quantile(waits_ms, 0.5), 1),
        "push_ms_p99": round(quantile(waits_ms, 0.99), 1),
    }


def measure(folder: Path, seconds: float, ship_s: float) -> dict[str, object]:
    """Return all figures."""
    CertificateAuthority.create(folder / "ca", now_unix_ms=clock.now_unix_ms)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(folder, theirs))
    process.start()
    try:
        port = ours.recv()
        ours.send("figures")
        before = ours.recv()
        began_s = time.monotonic()
        seen = asyncio.run(load(port, folder, seconds, ship_s))
        wall_s = time.monotonic() - began_s
        ours.send("figures")
        after = ours.recv()
        ours.send("end")
    finally:
        process.join(30)
        process.kill()
    spent = {
        name: after[name] - before[name] for name in ("cpu_s", "records", "batches", "commits")
    }
    return {
        "agents": AGENTS,
        "ship_s": ship_s,
        "wall_s": round(wall_s, 1),
        "records_per_s": round(spent["records"] / wall_s),
        "batches_per_s": round(spent["batches"] / wall_s),
        "commits_per_s": round(spent["commits"] / wall_s),
        "cores": round(spent["cpu_s"] / wall_s, 3),
        "cpu_us_per_record": round(spent["cpu_s"] * 1e6 / max(1, spent["records"])),
        "rss_mb": after["rss_mb"],
        "not_counted": after["quarantined"] + after["refused"],
        **seen,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--ship-s", type=float, default=1.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.seconds, options.ship_s)
    print(json.dumps(figures, indent=1))
    write_report("usage_load", figures)


if __name__ == "__main__":
    main()
