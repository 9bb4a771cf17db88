"""Each tier's predicted first token against what came, on the five sites of ``edgeforge up``.

    make up && make bench BENCH=tiers
    python -m tests.bench.tiers [--requests N] [--state-dir DIR]

Requests go out one at a time and in turn, so that all ways see the same noise: through GRU with
180 ms (edge), through GRU with 2,000 ms (central), through BOM with 250 ms (regional). First tokens
are taken at the client; predictions are those of each request's own trace.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from coordinator.cli.client import connected
from coordinator.cli.profiles import load_profile
from coordinator.devfleet.demonstration import WARM_UP_REQUESTS, fetch_trace
from coordinator.devfleet.layout import FleetLayout, read_facts
from coordinator.devfleet.streamed_answer import stream_answer
from tests.bench.report import quantile, write_report


@dataclass
class Way:
    """One way through the fleet, and what came of it."""

    via: str
    budget_ms: float
    tiers: Counter[str] = field(default_factory=Counter)
    predicted_ms: list[float] = field(default_factory=list)
    actual_ms: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, object]:
        pairs = list(zip(self.actual_ms, self.predicted_ms, strict=True))
        return {
            "via": self.via,
            "budget_ms": self.budget_ms,
            "served": dict(self.tiers),
            "predicted_ttft_ms_p99_median": quantile(self.predicted_ms, 0.5),
            "ttft_ms_p50": quantile(self.actual_ms, 0.5),
            "ttft_ms_p99": quantile(self.actual_ms, 0.99),
            "at_or_under_prediction": sum(came <= said for came, said in pairs) / len(pairs),
            "within_budget": sum(came <= self.budget_ms for came, _ in pairs) / len(pairs),
        }


def measure(layout: FleetLayout, requests: int) -> list[dict[str, object]]:
    """Send ``requests`` each way."""
    facts = read_facts(layout)
    if facts is None or len(facts.agents) < 5:
        raise SystemExit("no fleet of five sites runs here: make up")
    api_key = layout.api_key.read_text(encoding="utf-8").strip()
    ports = {agent.pop: agent.client_port for agent in facts.agents}
    deployment = facts.deployments[0].name
    ways = [Way("GRU", 180.0), Way("GRU", 2_000.0), Way("BOM", 250.0)]
    with connected(load_profile(layout.profile)) as client:
        for number in range(-WARM_UP_REQUESTS, requests):
            for way in ways:
                answer = stream_answer(ports[way.via], api_key, deployment, way.budget_ms)
                if number < 0:
                    continue
                trace = fetch_trace(client, answer.trace_id, way.via)
                way.tiers[answer.tier] += 1
                way.predicted_ms.append(trace.predicted_ttft_ms_p99)
                way.actual_ms.append(answer.first_token_ms)
    return [way.figures() for way in ways]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--state-dir", type=Path, default=Path(".edgeforge"))
    options = parser.parse_args()
    rows = measure(FleetLayout(options.state_dir.absolute()), options.requests)
    table = Table(*(name for name in rows[0]), box=None)
    for row in rows:
        table.add_row(
            *(f"{one:.3g}" if isinstance(one, float) else str(one) for one in row.values())
        )
    Console(width=160).print(table)
    write_report("tiers", {"paths": rows})


if __name__ == "__main__":
    main()
