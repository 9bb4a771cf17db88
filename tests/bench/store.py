"""Writes and restarts of the coordinator's store with a large fleet.

make bench BENCH=store
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

from coordinator import clock
from coordinator.store import keys, nodes
from coordinator.store.store import Store
from protos.domain.customers import ApiKey
from protos.domain.resources import NodeHealth
from tests.bench.large_fleet import NODES, POPS, fleet
from tests.bench.report import quantile, write_report
from tests.support.stores import registration

RESTARTS, WRITES = 5, 400


async def filled(path: Path) -> int:
    """Write a large fleet and return its rows."""
    store = await Store.open(path, now_unix_ms=clock.now_unix_ms)
    rows = fleet(random.Random(1))

    def everything(tx) -> None:
        for row in rows:
            tx.put(row)
        for index in range(NODES):
            nodes.enrol(f"n-{index}", f"P{index % POPS}", index + 1, clock.now_unix_ms() + 10**9)(
                tx
            )

    await store.write(everything)
    await store.close()
    return len(rows)


async def restart_ms(path: Path) -> tuple[float, float]:
    """Return the time and the processor's time of one start."""
    begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
    store = await Store.open(path, now_unix_ms=clock.now_unix_ms, must_exist=True)
    taken = (time.perf_counter() - begun_s) * 1_000, (time.process_time() - begun_cpu_s) * 1_000
    await store.close()
    return taken


async def writes_ms(write: Callable[[int], Awaitable[None]]) -> dict[str, float]:
    """Return how long writes take, one after another."""
    taken = []
    for number in range(WRITES):
        begun_s = time.perf_counter()
        await write(number)
        taken.append((time.perf_counter() - begun_s) * 1_000)
    return {"ms_p50": round(median(taken), 3), "ms_p99": round(quantile(taken, 0.99), 3)}


async def measure(path: Path) -> dict[str, object]:
    """Return all figures."""
    figures: dict[str, object] = {"rows": await filled(path)}
    starts = [await restart_ms(path) for _ in range(RESTARTS)]
    figures["restart_ms"] = round(median(one for one, _ in starts))
    figures["restart_cpu_ms"] = round(median(one for _, one in starts))
    store = await Store.open(path, now_unix_ms=clock.now_unix_ms)

    async def health(number: int) -> None:
        turned = NodeHealth.SUSPECT if number % 2 == 0 else NodeHealth.READY
        await store.write(nodes.set_health({f"n-{number % 7}": turned}))

    async def key(number: int) -> None:
        digest = number.to_bytes(32, "big")
        await store.write(keys.create(ApiKey(f"new{number}", digest, "account-1", (), 0), 1))

    async def register(number: int) -> None:
        reported = replace(registration(f"n-{number}"), peer_port=8_000 + number)
        await store.write(nodes.register(reported))

    figures["set_health"] = await writes_ms(health)
    figures["create_key"] = await writes_ms(key)
    figures["register"] = await writes_ms(register)
    begun_s = time.perf_counter()
    for _ in range(10):  # in batches, so that on a busy machine none waits too long for its turn
        await asyncio.gather(*map(health, range(100)))
    figures["concurrent_writes_per_s"] = round(1_000 / (time.perf_counter() - begun_s))
    await store.close()
    return figures


def main() -> None:
    """Measure, print and report."""
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(Path(folder) / "coordinator.db"))
    for name, value in figures.items():
        print(f"{name:>24}  {value}")
    write_report("store", figures)


if __name__ == "__main__":
    main()
