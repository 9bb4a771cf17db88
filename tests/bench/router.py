"""How long a decision takes in a fleet of the planned size, what its tables weigh and hold up.

    make bench BENCH=router
    python -m tests.bench.router [--decisions N]

Writes ``.bench/router.json``. A decision is what an agent does for each placement of a request:
live state, round trips, warmth, prefixes and fill looked up for 20 candidates, each predicted, one
chosen. 50 models are in demand here. ``decide_*`` is wall time; ``decide_cpu_*`` is the thread's
own, which neighbours on a busy machine cannot lengthen. See ``tests/bench/router_tables.py`` for
the tables.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console
from rich.table import Table as Printed

from agent.core.engine_queue import EngineQueue
from agent.core.fill import FillMeter
from agent.core.live import LiveState
from agent.core.prefixes import PrefixMemory, PromptBlocks, prompt_blocks
from agent.gateway.surroundings import Surroundings, fill_lookup, target_lookup
from agent.main import GC_THRESHOLDS
from agent.peers.pool import PeerPool
from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.predictor import FEW_OBSERVATIONS, Outcome, Predictor
from protos.domain.regimes import Load
from protos.domain.resources import Deployment, ResourceType
from protos.domain.router import RequestShape, place
from tests.bench.large_fleet import REPLICAS_PER_MODEL, fleet, model_name, tables
from tests.bench.router_tables import measure_changes, weigh_apart

REPORT = Path(".bench") / "router.json"
TARGETS = {
    "decide_us_p50": None,
    "decide_us_p99": 50.0,
    "table_bytes_rss": 120 * 1024 * 1024,
    "delta_1pct_ms": None,
    "chunk_delay_ms_p99_meanwhile": 5.0,
}
SELF_NODE_ID = "n-7"
#: Models that clients ask for, the n-th an n-th as often as the first; with 20 replicas
#: each they are about what a predictor remembers.
MODELS_IN_DEMAND = 50
#: Prompts that begin alike, and the bytes of one.
PREFIXES, PROMPT_BYTES = 20, 2_048
PROMPT_TOKENS = 500
NOW_MS = 1_000_000.0


class Gateway:
    """What an agent's gateway knows after some minutes of serving the models in demand."""

    def __init__(self, view: FleetView, chance: random.Random) -> None:
        self.view, self._chance = view, chance
        live, prefixes = LiveState(), PrefixMemory()
        config = SimpleNamespace(source_address="", warm_spares=2, max_warm_targets=64)
        now: Callable[[], float] = lambda: NOW_MS  # noqa: E731
        peers = PeerPool(
            SELF_NODE_ID, config, SimpleNamespace(client=None), lambda: view, live, now
        )
        models = [model_name(index) for index in range(MODELS_IN_DEMAND)]
        self.prompts = {
            model: [prompt_blocks(bytes([number]) * PROMPT_BYTES, model, "salt")
                    for number in range(PREFIXES)]
            for model in models
        }  # fmt: skip
        for node_id in sorted({node for model in models for node in view.replicas[model]}):
            self._meet(live, node_id)
        for node_id in chance.sample(sorted(view.nodes), 64):
            pool = peers.pool_for(node_id)
            assert pool is not None
            pool.give_back(SimpleNamespace(reusable=True, closed=False))
        for model in models:
            for prompt in self.prompts[model]:
                for node_id in chance.sample(sorted(view.replicas[model]), 3):
                    prefixes.seen(node_id, model, 1, prompt, NOW_MS - chance.uniform(0, 60_000))
        everything: dict[str, Any] = {each.name: None for each in fields(Surroundings)}
        everything |= {
            "node_id": SELF_NODE_ID,
            "view": lambda: view,
            "engines": SimpleNamespace(endpoint_for=lambda model: None),
            "peers": peers,
            "live": live,
            "prefixes": prefixes,
            "predictor": self._outcomes(),
            "engine_queue": EngineQueue(16),
            "own_fill": FillMeter(2_000.0),
            "now_mono_ms": now,
            "draw": chance.random,
            "edge_fill_ratio": 0.7,
        }
        self.around = Surroundings(**everything)

    def _meet(self, live: LiveState, node_id: str) -> None:
        chance = self._chance
        rtt_ms = chance.uniform(1, 60)
        for _ in range(64):
            live.probed(node_id, rtt_ms * chance.uniform(1.0, 1.2), NOW_MS)
        live.reported(
            node_id,
            NOW_MS - chance.uniform(0, 5_000),
            in_flight=chance.randrange(12),
            queued=0,
            fill_ratio=chance.random(),
            ready_models=[model for model in self.prompts if node_id in self.view.replicas[model]],
        )
        for _ in range(chance.randrange(3)):  # some of their prompts have been taken in
            live.request_started(
                node_id, NOW_MS - 20.0, PROMPT_TOKENS * chance.choice((0, 0, 0, 1))
            )

    def _outcomes(self) -> Predictor:
        """Enough of every target, in all its regimes."""
        predictor, chance = Predictor(), self._chance
        for model in self.prompts:
            for node_id, replica in self.view.replicas[model].items():
                for number in range(3 * FEW_OBSERVATIONS):
                    waits = (0.0, 2_000.0, 0.0)[number % 3], (0.0, 0.0, 2.0)[number % 3]
                    load = Load(chance.uniform(100, 2_000), chance.randrange(12), *waits)
                    took_ms = chance.uniform(60, 120) + 50.0 * (number % 3)
                    outcome = Outcome(load, 10.0, took_ms, number * 200.0)
                    predictor.learn(node_id, model, replica.profile, outcome)
        return predictor

    def decide(self, deployment: Deployment, prompt: PromptBlocks, budget_ms: float) -> int:
        """Place one request as ``agent.gateway.attempts`` does; return the candidates."""
        around = self.around
        shape = RequestShape(deployment, PROMPT_TOKENS, PROMPT_BYTES, True, budget_ms, None)
        now_mono_ms = around.now_mono_ms()
        placement = place(
            around.view(),
            shape,
            around.node_id,
            target_lookup(around, deployment.model, now_mono_ms, prompt),
            draw=around.draw(),
            fill=fill_lookup(around, now_mono_ms),
            edge_fill_ratio=around.edge_fill_ratio,
            learned=around.predictor.of_model(deployment.model),
        )
        return len(placement.candidates)

    def requests(self, count: int) -> Iterator[tuple[Deployment, PromptBlocks, float]]:
        chance, models = self._chance, list(self.prompts)
        of_model = {
            model: [each for each in self.view.deployments.values() if each.model == model]
            for model in models
        }
        popularity = [1.0 / rank for rank in range(1, len(models) + 1)]
        for model in chance.choices(models, popularity, k=count):
            deployment = chance.choice(of_model[model])
            budget_ms = chance.choice((80.0, 150.0, 300.0))
            yield deployment, chance.choice(self.prompts[deployment.model]), budget_ms


def measure_decisions(view: FleetView, chance: random.Random, count: int) -> dict[str, float]:
    """Time one placement after another, with the collector set as an agent sets it."""
    gateway = Gateway(view, chance)
    gc.set_threshold(*GC_THRESHOLDS)
    gc.collect()
    gc.freeze()
    took_us, cpu_us = [], []
    for request in gateway.requests(count):
        cpu_began, began = time.thread_time_ns(), time.perf_counter_ns()
        candidates = gateway.decide(*request)
        ended, cpu_ended = time.perf_counter_ns(), time.thread_time_ns()
        took_us.append((ended - began) / 1_000)
        cpu_us.append((cpu_ended - cpu_began) / 1_000)
        assert candidates == REPLICAS_PER_MODEL
    gc.unfreeze()
    return {**quantiles(took_us, "decide_us"), **quantiles(cpu_us, "decide_cpu_us")}


def quantiles(samples: list[float], name: str) -> dict[str, float]:
    ordered = sorted(samples)
    return {
        f"{name}_p50": round(ordered[len(ordered) // 2], 1),
        f"{name}_p99": round(ordered[int(len(ordered) * 0.99)], 1),
    }


def run(decisions: int) -> dict[str, Any]:
    chance = random.Random(7)
    rows = fleet(chance)
    found: dict[str, Any] = measure_decisions(
        with_changes(FleetView(), (), rows), chance, decisions
    )
    held = tables(rows)
    del rows
    with tempfile.TemporaryDirectory() as folder:
        found |= weigh_apart(held, Path(folder))
    found |= measure_changes(held, chance)
    found["table_bytes"] = {
        kind.value: held[kind].size_bytes for kind in ResourceType if kind in held
    }
    first = [name for name in TARGETS if name in found]
    return {name: found[name] for name in [*first, *(each for each in found if each not in first)]}


def show(found: dict[str, Any]) -> None:
    table = Printed("", "figure", "target", box=None)
    for name, value in found.items():
        target = TARGETS.get(name)
        table.add_row(name, str(value), "" if target is None else f"< {target:.10g}")
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=20_000)
    found = run(parser.parse_args().decisions)
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(found, indent=1) + "\n")
    show(found)


if __name__ == "__main__":
    main()
