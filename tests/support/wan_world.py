"""Five sites with the product's own distances, engines of three sizes, and their clients.

The initial state of a simulated wide-area fleet, from a seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.core.price_card import default_price_card
from coordinator.devfleet.distances import round_trip_ms
from coordinator.devfleet.sites import BOM, DXB, GRU, IAD, LAG
from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.resources import (
    Deployment,
    EngineProfile,
    Model,
    ModelSource,
    Node,
    NodeHealth,
    NodeIntent,
    Pop,
    Replica,
    ReplicaState,
    Resource,
    SlaTier,
    Tier,
)
from tests.support.azure_trace import Line, read_trace, trace_path, with_bursts
from tests.support.simulated_engine import EngineSpeed

MODEL = "owner/a-billion-parameters@1"
SIZE_CLASS = "xs"
#: First-token budgets in ms, one deployment each.
BUDGETS_MS = {
    80: SlaTier.REALTIME,
    150: SlaTier.INTERACTIVE,
    300: SlaTier.STANDARD,
    1_000: SlaTier.STANDARD,
}
#: Round trip between two hosts of one site.
SAME_SITE_RTT_MS = 0.4
#: Bursts: a stretch of each site's requests comes in so short a time, so many times as fast.
BURST_EVERY_MS, BURST_LASTING_MS, BURST_FACTOR = 120_000.0, 20_000.0, 4.0
#: The kernel's smoothed round trip of a client's own connection: median and spread.
LAST_MILE_MS, LAST_MILE_SPREAD = 8.0, 0.5

#: A model of a billion parameters on three sizes of accelerator: small and dear, large and cheap.
SPEEDS = {
    Tier.EDGE: EngineSpeed(5.0, 0.012, 0.25, 6),
    Tier.REGIONAL: EngineSpeed(4.5, 0.008, 0.12, 16),
    Tier.CENTRAL: EngineSpeed(4.0, 0.004, 0.05, 48),
}


@dataclass(frozen=True, slots=True)
class SiteOfBench:
    """A POP, its hosts, its clients' requests a second, and when its bursts begin."""

    pop: Pop
    nodes: int
    requests_per_s: float
    burst_shift_ms: float


SITES = (
    SiteOfBench(GRU, 2, 3.0, 0.0),
    SiteOfBench(BOM, 2, 4.0, 15_000.0),
    SiteOfBench(LAG, 1, 1.2, 30_000.0),
    SiteOfBench(DXB, 2, 2.0, 70_000.0),
    SiteOfBench(IAD, 2, 4.0, 75_000.0),
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of a client, at the agent it reached."""

    at_ms: float
    node_id: str
    budget_ms: int
    prompt_tokens: int
    completion_tokens: int
    body_bytes: int
    last_mile_ms: float


def node_ids(site: SiteOfBench) -> list[str]:
    return [f"{site.pop.id.lower()}-{number + 1}" for number in range(site.nodes)]


def pops_by_node() -> dict[str, Pop]:
    return {node_id: site.pop for site in SITES for node_id in node_ids(site)}


def profile_of(speed: EngineSpeed) -> EngineProfile:
    """Return the profile that an operator would configure for such an engine: approximate."""
    busy_step_ms = speed.step_ms + speed.decode_ms_per_request * speed.max_parallel
    return EngineProfile(
        first_token_ms_p99=3.0 * speed.step_ms,
        prefill_ms_per_token=1.2 * speed.prefill_ms_per_token,
        max_parallel=speed.max_parallel,
        tokens_per_s=speed.max_parallel * 1_000.0 / busy_step_ms,
    )


def deployment_name(budget_ms: int) -> str:
    return f"within-{budget_ms}"


def fleet_view(*, strict: bool) -> FleetView:
    """Return the table that every agent holds, for the whole run."""
    rows: list[Resource] = [site.pop for site in SITES]
    rows.append(Model(MODEL, ModelSource.MANAGED, "llama", SIZE_CLASS, 8_192, 2 * 10**9, bytes(32)))
    for node_id, pop in pops_by_node().items():
        active = (NodeHealth.READY, NodeIntent.ACTIVE)
        rows.append(Node(node_id, pop.id, "192.0.2.1", 7_443, "", *active))
        profile = profile_of(SPEEDS[pop.tier])
        rows.append(Replica(node_id, MODEL, ReplicaState.READY, profile, 1))
    for budget_ms, sla_tier in BUDGETS_MS.items():
        name = deployment_name(budget_ms)
        rows.append(Deployment(name, "account", MODEL, "", budget_ms, sla_tier, (), strict))
    rows += [price for price in default_price_card() if price.size_class == SIZE_CLASS]
    return with_changes(FleetView(), (), rows)


def round_trip_between_ms(source: Pop, destination: Pop) -> float:
    """Return the median round trip: the product's own table."""
    return SAME_SITE_RTT_MS if source is destination else round_trip_ms(source, destination)


def workload_lines() -> tuple[str, list[Line]]:
    """Return the public trace if it is available, else similar lines; and which of both."""
    path = trace_path()
    if path.exists():
        return "azure conversation trace", read_trace(path)
    return "synthetic", synthetic_lines(random.Random(23), 20_000)


def synthetic_lines(chance: random.Random, count: int) -> list[Line]:
    """Return a Poisson stream with the trace's medians, spreads and bounds."""
    lines, at_ms = [], 0.0
    for _ in range(count):
        at_ms += chance.expovariate(1.0 / 185.0)
        prompt = min(4_200, round(chance.lognormvariate(6.7, 0.9)) + 1)
        completion = min(600, round(chance.lognormvariate(4.9, 0.8)) + 1)
        lines.append(Line(at_ms, prompt, completion))
    return lines


def arrivals(
    lines: Sequence[Line], budgets_ms: Sequence[int], length_ms: float, seed: int
) -> list[Arrival]:
    """Return every request of all sites in the order of time.

    Each site gets its own stretch of ``lines``, at its own rate, with its own bursts. The same
    seed gives the same requests whatever the budgets, which are dealt out at random.
    """
    chance, dealt = random.Random(seed), random.Random(seed + 1)
    found: list[Arrival] = []
    for number, site in enumerate(SITES):
        hosts = node_ids(site)
        for line in _lines_of(lines, number, site, length_ms):
            last_mile_ms = LAST_MILE_MS * chance.lognormvariate(0.0, LAST_MILE_SPREAD)
            noise = chance.lognormvariate(0.0, 0.06)
            found.append(
                Arrival(
                    line.at_ms,
                    chance.choice(hosts),
                    dealt.choice(budgets_ms),
                    line.prompt_tokens,
                    line.completion_tokens,
                    160 + round(line.prompt_tokens * 4.2 * noise),
                    last_mile_ms,
                )
            )
    found.sort(key=lambda arrival: arrival.at_ms)
    return found


def _lines_of(
    lines: Sequence[Line], number: int, site: SiteOfBench, length_ms: float
) -> list[Line]:
    """Return a site's stretch of ``lines``: at its rate on average, with its bursts in it."""
    count = round(site.requests_per_s * length_ms / 1_000.0)
    start = number * len(lines) // len(SITES)
    part = [lines[(start + index) % len(lines)] for index in range(count)]
    began_ms, wraps_ms = part[0].at_ms, lines[-1].at_ms
    times = [(line.at_ms - began_ms) % (wraps_ms + 1.0) for line in part]
    stretch = length_ms / (times[-1] + 1.0)
    paced = [
        Line(at_ms * stretch, line.prompt_tokens, line.completion_tokens)
        for at_ms, line in zip(times, part, strict=True)
    ]
    bursting = with_bursts(
        paced, every_ms=BURST_EVERY_MS, lasting_ms=BURST_LASTING_MS, factor=BURST_FACTOR
    )
    return [
        Line(
            (line.at_ms + site.burst_shift_ms) % length_ms,
            line.prompt_tokens,
            line.completion_tokens,
        )
        for line in bursting
    ]
