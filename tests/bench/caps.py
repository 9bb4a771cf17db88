"""How far agents at one cap exceed it together, beside what the documentation promises.

    make bench BENCH=caps
    python -m tests.bench.caps [--seconds N]

Agents' own limits and links, each over its own mutual TLS to the coordinator's quota service, all
in this process, under full load: every agent asks without pause. For 2, 5 and 20 agents:

*connected*: the cap of money is used up; ``overshoot_ratio`` is how much more was spent, and could
still be spent by running requests, than the cap. Promised: 0.
*one dies*: an agent ends at once with what it has reserved and spent, its records uncounted for
longer than its leases last; ``dead_overshoot_ratio`` beside ``dead_promised_ratio``: what it had in
use and an eighth of the cap (docs/decisions/0060).
*rates*: requests a minute at one limit; ``rate_overshoot_ratio`` over a bucket of one minute.

And what a limited request costs an agent, in microseconds of processor time.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from pathlib import Path

from agent.clock import now_mono_ms
from agent.core.account_limits import AccountLimits, Use
from coordinator.core.quota_pool import MOST_PART_OF_MONEY
from protos.domain.customers import Account, ApiKey, UsageLimits
from protos.domain.errors import EdgeForgeError
from protos.domain.fleet_view import FleetView
from protos.domain.quota import LEASE_MARGIN_MS, LEASE_MS
from tests.bench.report import write_report
from tests.support.quota_cell import QuotaAgent, QuotaCoordinator, quota_agent

AGENTS = (2, 5, 20)
BOUND_NANO_USD = 10_000
#: What all requests of one second would cost, in caps.
CAP_SECONDS = 3.0


class Meter:
    """What is spent, running and counted of one account."""

    def __init__(self, coordinator: QuotaCoordinator) -> None:
        self.coordinator = coordinator
        self.spent = 0
        self.reserved = 0
        self.most = 0
        self.admitted = 0
        self.draw = random.Random(1)

    async def load(self, agent: QuotaAgent, until_s: float, workers: int = 4) -> None:
        """Ask without pause, with ``workers`` requests in progress."""

        async def worker() -> None:
            while time.monotonic() < until_s:
                try:
                    use = await agent.ask(cost=BOUND_NANO_USD)
                except EdgeForgeError:
                    await asyncio.sleep(0.005)
                    continue
                self.admitted += 1
                self.reserved += BOUND_NANO_USD
                self.most = max(self.most, self.spent + self.reserved)
                await asyncio.sleep(self.draw.uniform(0.002, 0.02))
                self.end(agent, use)

        await asyncio.gather(*(worker() for _ in range(workers)))

    def end(self, agent: QuotaAgent, use: Use) -> None:
        """End a request; its record is counted some time later, and then the agent is told."""
        cost = self.draw.randrange(1, BOUND_NANO_USD + 1)
        use.record = self.admitted
        self.admitted += 1
        self.spent += cost
        self.reserved -= BOUND_NANO_USD
        agent.limits.end(use, 10.0, cost)
        asyncio.get_running_loop().call_later(0.2, self.count, agent, use.record, cost)

    def count(self, agent: QuotaAgent, record: int, cost: int) -> None:
        assert self.coordinator.remaining is not None
        self.coordinator.remaining -= cost
        asyncio.get_running_loop().call_later(0.01, agent.limits.unsettled.counted, record)


async def started(
    count: int, folder: Path, account: Account, remaining: int | None
) -> tuple[QuotaCoordinator, list[QuotaAgent]]:
    coordinator = QuotaCoordinator(folder, account, remaining)
    rows, coordinator.view = coordinator.view, FleetView()
    await coordinator.start()
    coordinator.view = rows
    agents = [quota_agent(coordinator, f"a{n}", folder / f"a{n}") for n in range(count)]
    for agent in agents:
        agent.start()
    return coordinator, agents


async def stopped(coordinator: QuotaCoordinator, agents: list[QuotaAgent]) -> None:
    for agent in agents:
        await agent.stop()
    await coordinator.stop()


async def money(count: int, folder: Path, seconds: float) -> dict[str, float]:
    cap = int(count * 4 * 50 * BOUND_NANO_USD / 2 * CAP_SECONDS)
    coordinator, agents = await started(count, folder, Account("acme", funded=True), cap)
    meter = Meter(coordinator)
    until_s = time.monotonic() + seconds
    await asyncio.gather(*(meter.load(agent, until_s) for agent in agents))
    waits_ms = [wait for agent in agents for wait in agent.waits_ms[:1]]
    await stopped(coordinator, agents)
    return {
        "overshoot_ratio": max(0.0, meter.most / cap - 1.0),
        "promised_ratio": 0.0,
        "used_ratio": meter.spent / cap,
        "first_request_waits_ms_max": max(waits_ms),
    }


async def one_dies(count: int, folder: Path) -> dict[str, float]:
    """Kill one of the agents with records that are not counted until its leases have ended."""
    cap = int(count * 4 * 50 * BOUND_NANO_USD / 2 * CAP_SECONDS)
    coordinator, agents = await started(count, folder, Account("acme", funded=True), cap)
    victim, *others = agents
    meter = Meter(coordinator)
    lost: list[int] = []

    def lose(_agent: QuotaAgent, _record: int, cost: int) -> None:
        lost.append(cost)

    dead = Meter(coordinator)
    dead.count = lose  # type: ignore[method-assign]
    await dead.load(victim, time.monotonic() + 0.7)
    await victim.stop()
    until_s = time.monotonic() + (LEASE_MS + LEASE_MARGIN_MS) / 1_000 + CAP_SECONDS + 1.5
    await asyncio.gather(*(meter.load(agent, until_s) for agent in others))
    await stopped(coordinator, agents)
    return {
        "dead_overshoot_ratio": max(0.0, (meter.most + dead.spent) / cap - 1.0),
        "dead_promised_ratio": dead.spent / cap + 1 / MOST_PART_OF_MONEY,
    }


async def rates(count: int, folder: Path, seconds: float) -> dict[str, float]:
    limit = 60 * count
    account = Account("acme", UsageLimits(requests_per_minute=limit))
    coordinator, agents = await started(count, folder, account, None)
    began_s, admitted = time.monotonic(), 0

    async def load(agent: QuotaAgent) -> None:
        nonlocal admitted
        while time.monotonic() < began_s + seconds:
            admitted += await agent.ask_or_code() == "ok"
            await asyncio.sleep(0.005)

    await asyncio.gather(*map(load, agents))
    bucket = limit + limit * (time.monotonic() - began_s) / 60
    await stopped(coordinator, agents)
    return {
        "rate_overshoot_ratio": max(0.0, admitted / bucket - 1.0),
        "rate_used_ratio": admitted / bucket,
    }


def cost_us(limits: UsageLimits, *, repeats: int = 20_000) -> float:
    """Return the processor time of ``begin`` and ``end`` of a request, the least of five runs."""
    account = Account("acme", limits)
    key = ApiKey("k1", b"k" * 32, "acme", (), 0)
    best = float("inf")
    for _ in range(5):
        of_agent = AccountLimits()
        now_ms = now_mono_ms()
        if not limits.unlimited:
            of_agent.begin(account, key, 1, 10.0, now_ms)
            for lease, _ in of_agent._held[key.digest].leases:
                lease.granted, lease.ends_mono_ms = 1 << 50, now_ms + 1e9
        began_s = time.process_time()
        for _ in range(repeats):
            use = of_agent.begin(account, key, 1, 10.0, now_ms)
            if use is not None:
                of_agent.end(use, 12.0)
        best = min(best, (time.process_time() - began_s) / repeats * 1e6)
    return best


async def run(seconds: float) -> dict[str, object]:
    figures: dict[str, object] = {}
    worst = 0.0
    print(
        f"{'agents':>6} {'overshoot':>9} {'used':>6} {'one dies':>9} {'promised':>9} {'rates':>6}"
    )
    for count in AGENTS:
        with tempfile.TemporaryDirectory() as name:
            folders = [Path(name) / part for part in ("money", "dies", "rates")]
            for folder in folders:
                folder.mkdir()
            got = await money(count, folders[0], seconds)
            got |= await one_dies(count, folders[1])
            got |= await rates(count, folders[2], seconds / 2)
        figures[f"agents_{count}"] = got
        worst = max(worst, got["overshoot_ratio"])
        print(
            f"{count:6d} {got['overshoot_ratio']:9.4f} {got['used_ratio']:6.3f}"
            f" {got['dead_overshoot_ratio']:9.4f} {got['dead_promised_ratio']:9.4f}"
            f" {got['rate_overshoot_ratio']:6.4f}"
        )
    figures["overshoot_ratio"], figures["promised_ratio"] = worst, 0.0
    figures["unlimited_us"] = cost_us(UsageLimits())
    figures["limited_us"] = cost_us(UsageLimits(100, 1_000_000, 1_000_000_000))
    print(
        f"a request without limits {figures['unlimited_us']:.2f} us, with three "
        f"{figures['limited_us']:.2f} us"
    )
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of full load, each")
    given = parser.parse_args()
    write_report("caps", asyncio.run(run(given.seconds)))


if __name__ == "__main__":
    main()
