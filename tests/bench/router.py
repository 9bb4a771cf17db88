"""How long a decision takes in a fleet of the planned size, what its tables weigh and hold up.

    make bench BENCH=router
    python -m tests.bench.router [--decisions N]

Writes ``.bench/router.json``. ``decide_us_*`` is what each placement of a request costs an agent
(``agent.core.request.placing``: live state, round trips, warmth, prefixes, outcomes and fill of 20
candidates; see ``tests/bench/router_gateway.py``) in wall time, and ``decide_cpu_us_*`` in the
thread's own, when deployments of one model are asked for; ``many_models_us_*`` when 50 are, so that
little of what is read is in the processor's caches. ``begin_us_*`` is a request from its admission
to its first command: the same placement, its deadlines, and what is noted of it. ``miss_us_*``:
where no target is in time. ``new_view_us_*``: the first decision on a model after the table has
changed. ``place_us_*``: ``router.place`` alone, states ready-made. ``tests/bench/router_tables.py``
says what the rest is. A busy machine lengthens all of them: ``loop_us_*`` is a fixed piece of work,
timed alike.
"""

from __future__ import annotations

import argparse
import gc
import random
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as Printed

from agent.main import GC_THRESHOLDS
from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.resources import ResourceType
from tests.bench.large_fleet import REPLICAS_PER_MODEL, fleet, tables
from tests.bench.report import quantile, write_report
from tests.bench.router_gateway import BUDGETS_MS, MANY_MODELS, Gateway
from tests.bench.router_tables import measure_changes, weigh_apart

TARGETS = {
    "decide_us_p50": None,
    "decide_us_p99": 50.0,
    "table_bytes_rss": 120 * 1024 * 1024,
    "delta_1pct_ms": None,
    "chunk_delay_ms_p99_meanwhile": 5.0,
}
#: No first token comes so soon.
HOPELESS_MS = (20.0,)


class Timer:
    """Takes wall and CPU time of one call after another."""

    def __init__(self) -> None:
        self._wall_us: list[float] = []
        self._cpu_us: list[float] = []

    def time(self, work: Callable[[], Any]) -> Any:
        cpu_began, began = time.thread_time_ns(), time.perf_counter_ns()
        found = work()
        ended, cpu_ended = time.perf_counter_ns(), time.thread_time_ns()
        self._wall_us.append((ended - began) / 1_000)
        self._cpu_us.append((cpu_ended - cpu_began) / 1_000)
        return found

    def figures(self, wall: str, cpu: str = "") -> dict[str, float]:
        return {
            f"{name}_{label}": round(quantile(samples, share), 1)
            for name, samples in ((wall, self._wall_us), (cpu, self._cpu_us))
            if name
            for label, share in (("p50", 0.5), ("p99", 0.99))
        }


def measure_decisions(view: FleetView, chance: random.Random, count: int) -> dict[str, float]:
    """Time one placement after another, with the collector set as an agent sets it."""
    one, many = Gateway(view, chance, 1), Gateway(view, chance, MANY_MODELS)
    gc.set_threshold(*GC_THRESHOLDS)
    gc.collect()
    gc.freeze()
    decisions, begins, mixed, misses, new_views, places, loops = (Timer() for _ in range(7))
    for request in one.requests(count, BUDGETS_MS):
        placement = decisions.time(partial(one.place, request))
        assert len(placement.candidates) == REPLICAS_PER_MODEL
        one.go_on(placement)
        loops.time(_loop)
    for request in many.requests(count, BUDGETS_MS):
        many.go_on(mixed.time(partial(many.place, request)))
    for request in one.requests(count // 10, HOPELESS_MS):
        assert misses.time(partial(one.place, request)).predicted_miss
    for request in one.requests(count // 10, BUDGETS_MS):
        view.offers.clear()
        new_views.time(partial(one.place, request))
    for request in one.requests(count, BUDGETS_MS):
        places.time(one.with_states_ready(request))
    for request in one.requests(count, BUDGETS_MS):
        machine, (ask,) = begins.time(partial(one.begin, request))
        one.answer_others(machine, ask)
    gc.unfreeze()
    return {
        **decisions.figures("decide_us", "decide_cpu_us"),
        **begins.figures("begin_us"),
        **mixed.figures("many_models_us"),
        **misses.figures("miss_us"),
        **new_views.figures("new_view_us"),
        **places.figures("place_us"),
        **loops.figures("loop_us"),
    }


def _loop() -> int:
    total = 0
    for number in range(600):
        total += number * number
    return total


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
    return {name: found[name] for name in _in_order(found)}


def _in_order(names: Iterable[str]) -> list[str]:
    """Those that have a target, or are asked for beside them, first."""
    return sorted(names, key=lambda name: name not in TARGETS)


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
    write_report("router", found)
    show(found)


if __name__ == "__main__":
    main()
