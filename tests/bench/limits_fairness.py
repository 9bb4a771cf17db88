"""What a second tenant gets of an engine that another one has filled, and what admission costs.

    python -m tests.bench.limits_fairness

``make bench BENCH=limits`` shows these rows beside its own. A fleet of two agents as ``edgeforge
up`` starts it; the engine is the tests' double, whose streams hold a place for a second each. The
first tenant keeps 200 streams open on eight places; the second one begins while they run.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from agent.core.engine_admission import EngineAdmission
from agent.core.engine_door import EngineDoor
from agent.core.engine_place import Work
from tests.bench.report import quantile
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Fleet
from tests.support.tenants import Tenant, add_tenant, own_tenant
from tests.support.waiting import wait_until, wait_until_async

PLACES = 8
FIRST_STREAMS, SECOND_STREAMS = 200, 20
TOKENS, TOKEN_DELAY_MS = 20, 50
#: What the second tenant gets is read from one second after its first request, for so long.
SETTLED_S, WINDOW_S = 1.0, 6.0
_ADMISSIONS = 50_000

Row = dict[str, object]


def second_tenant_share() -> list[Row]:
    """Return one row for each service level of the second tenant, and the cost of admission."""
    rows = [admission_cost()]
    with (
        FakeEngineProcess("acme-chat") as engine,
        tempfile.TemporaryDirectory() as folder,
        Fleet(Path(folder) / "fleet", [engine.url]) as fleet,
    ):
        levels = ("standard", "interactive", "realtime")
        tenants = [add_tenant(fleet, f"t-{level}", *_options(level)) for level in levels]
        first = add_tenant(fleet, "first", *_options("standard"))
        fleet.configure("iad-1", "engine", max_parallel=PLACES)
        engine.control(tokens=TOKENS, token_delay_ms=TOKEN_DELAY_MS)
        own = own_tenant(fleet)
        url = fleet.agent("iad-1").url
        wait_until(lambda: asyncio.run(own.stream(url, tokens=1)) == 200, 30, "the engine")
        for level, second in zip(levels, tenants, strict=True):
            first.tokens_s.clear()
            rows.append(_row(level, first, second, asyncio.run(_compete(url, first, second))))
    return rows


def admission_cost() -> Row:
    """Return what one request's admission and release cost, with 1,500 waiting of 20 accounts."""
    door, inside = EngineDoor(EngineAdmission(PLACES)), []
    for number in range(1_500):
        inside.append(door.enter(Work(f"account-{number % 20}", prompt_tokens=100.0), 0.0))
    began_s = time.perf_counter()
    for number in range(_ADMISSIONS):
        inside.append(door.enter(Work(f"account-{number % 20}", prompt_tokens=100.0), 1.0))
        door.leave(inside[number], 1.0, 100.0)
    took_us = (time.perf_counter() - began_s) / _ADMISSIONS * 1e6
    return {"figure": "admission_us", "waiting_requests": 1_500, "value": round(took_us, 2)}


def _options(level: str) -> tuple[str, ...]:
    return "--sla", level, "--budget-ms", "5000"


async def _compete(url: str, first: Tenant, second: Tenant) -> float:
    """Let both stream; return when the second one began."""
    tasks = [asyncio.create_task(first.keep_streaming(url, FIRST_STREAMS, tokens=TOKENS))]
    try:
        await wait_until_async(lambda: len(first.tokens_s) > PLACES * TOKENS, 60, "a full engine")
        began_s = time.monotonic()
        tasks.append(asyncio.create_task(second.keep_streaming(url, SECOND_STREAMS, tokens=TOKENS)))
        end_s = began_s + SETTLED_S + WINDOW_S
        await wait_until_async(lambda: time.monotonic() >= end_s, 60, "the end of the window")
        return began_s
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _row(level: str, first: Tenant, second: Tenant, began_s: float) -> Row:
    window = began_s + SETTLED_S, began_s + SETTLED_S + WINDOW_S
    got, other = second.tokens_between(*window), first.tokens_between(*window)
    return {
        "figure": "second_tenant_share",
        "sla": level,
        "value": round(got / max(1, got + other), 3),
        "first_token_ms_p50": round(quantile(second.first_tokens_s, 0.5) * 1_000.0, 1),
        "first_token_ms_min": round(min(second.first_tokens_s) * 1_000.0, 1),
        "tokens_per_s": round((got + other) / WINDOW_S, 1),
    }


def main() -> None:
    for row in second_tenant_share():
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
