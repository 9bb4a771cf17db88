"""Simultaneous first requests for one adapter that is in no engine and on no disk here.

    python -m tests.bench.first_requests [--requests N]

Half of the requests reach the node that serves, half another one, which sends them on over mutual
TLS. Gateway, peer port, replicas and object store are the product's; the engine and the origin are
scripted. ``pulls``: how often the adapter's weights were fetched; ``loads``: how often it was put
into the engine; ``failed``: requests that were not answered with 200. ``make bench BENCH=pull``
takes these figures in.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from aiohttp import ClientSession, TCPConnector

from protos.domain.resources import Adapter, ReplicaState, Residency, Resource, Tier
from tests.bench.report import quantile, write_report
from tests.support.cell import CellResidents, cell
from tests.support.cell_host import CellHost
from tests.support.fleets import MODEL, deployment, model, node, pop, price, replica

REQUESTS = 1_000
ADAPTER = "acme/fr@1"
WEIGHTS_BYTES = 2_000_000


def rows() -> list[Resource]:
    """Return the table: the engine at ``iad-1``, nothing at ``gru-1``."""
    cold = replace(replica("iad-1", state=ReplicaState.COLD), adapter=ADAPTER)
    return [
        *(model(), Adapter(ADAPTER, MODEL, 8, WEIGHTS_BYTES, b"a" * 32, "acme")),
        *(pop("IAD", Tier.REGIONAL), pop("GRU"), node("iad-1", "IAD"), node("gru-1", "GRU")),
        *(replica("iad-1"), replace(cold, residency=Residency.ORIGIN)),
        *(price(tier, 10) for tier in Tier),
        replace(deployment("french", adapter=ADAPTER), ttft_budget_ms=60_000),
    ]


async def measure(requests: int, folder: Path) -> dict[str, float]:
    """Send ``requests`` at once; return the figures."""
    host = CellHost(folder, ADAPTER, WEIGHTS_BYTES)
    nodes = {"iad-1": host, "gru-1": CellResidents(there=set())}
    async with cell(folder, nodes, rows()) as made:
        await host.make_resident(MODEL)
        await made.probed()
        async with ClientSession(connector=TCPConnector(limit=0)) as session:
            took_ms: list[float] = []

            async def ask(number: int) -> int:
                via = ("iad-1", "gru-1")[number % 2]
                began_s = time.monotonic()
                status, _, _ = await made.chat(session, via, "french")
                took_ms.append(1_000 * (time.monotonic() - began_s))
                return status

            statuses = await asyncio.gather(*(ask(number) for number in range(requests)))
        return {
            "first_requests": requests,
            "pulls": host.adapter_pulls,
            "loads": host.adapter_loads,
            "failed": sum(status != 200 for status in statuses),
            "first_requests_ms_p50": round(quantile(took_ms, 0.5), 1),
            "first_requests_ms_max": round(max(took_ms), 1),
        }


def run(requests: int = REQUESTS) -> dict[str, float]:
    """Return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(measure(requests, Path(folder)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=REQUESTS)
    found = run(parser.parse_args().requests)
    write_report("first_requests", found)
    for name, value in found.items():
        print(f"{name:24} {value:12.1f}")


if __name__ == "__main__":
    main()
