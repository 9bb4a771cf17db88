"""What a cold start takes on the real vLLM, from a request to its first token.

    make bench BENCH=cold-start
    python -m tests.bench.cold_start [--quick] [--adapters N] [--swaps N] [--engines N]

The small model, its weights on local disk, through the agent's own ``Replicas``: each sample is
``make_resident`` and a streamed request of one token over the engine's socket. ``added_ms_p99``
is the P99 of cold ones less the P50 of warm requests of the same kind, one after each cold one: the
stricter of two readings, for what slows warm requests too counts as added by the load. Less the
warm P99 it is ``added_ms_p99_to_p99``. Adapters go round over more than the engine keeps, so that
every load reads the adapter's files. Then whole starts of an engine, with their parts from its own
log, and swaps and adapters whose files are pulled from a peer first, by a real agent's store over
loopback. No P99 is printed below 300 samples.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.core.cold_start import ColdPath
from tests.bench.report import quantile, write_report
from tests.support.fine_tunes import fine_tune_of
from tests.support.lora_files import adapter_for
from tests.support.pulling_pair import PullingPair
from tests.support.real_engine import engine_environment, small_model_dir
from tests.support.real_host import RealHost, connected, first_token_ms, now_mono_ms

BASE, TUNED = "acme/base@1", "acme/tuned@1"
#: In the engine at once, and made: each is gone from memory before it is asked for again.
SLOTS, ADAPTERS = 4, 12
LEAST_FOR_P99 = 300
PROMPT = "The river runs through the old town, past the mill and under seven bridges, and"
#: Lines of the engine's log that end a part of its start, in order.
PARTS = (
    ("import_and_arguments", r"non-default args"),
    ("configuration", r"Enabled custom fusions|Final IR op priority"),
    ("core_process", r"Initializing a V1 LLM engine"),
    ("worker_process", r"Starting to load model"),
    ("weights", r"Loading weights took"),
    ("cache_and_warmup", r"init engine \("),
    ("listening", r"Application startup complete|Route: /health"),
)


@dataclass
class Times:
    """Samples of one path, and of warm requests between them; milliseconds."""

    cold: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    weights_bytes: int = 0

    def figures(self) -> dict[str, Any]:
        """Return the figures of the path."""
        load_ms = statistics.median(self.load)
        found: dict[str, Any] = {
            "n": len(self.cold),
            "p50_ms": round(statistics.median(self.cold), 1),
            "warm_p50_ms": round(statistics.median(self.warm), 1),
            "load_p50_ms": round(load_ms, 1),
            "ms_per_gb": round(load_ms / (self.weights_bytes / 1e9), 1),
        }
        if len(self.cold) >= LEAST_FOR_P99:
            p99_ms = quantile(self.cold, 0.99)
            found["p99_ms"] = round(p99_ms, 1)
            found["warm_p99_ms"] = round(quantile(self.warm, 0.99), 1)
            found["added_ms_p99"] = round(p99_ms - statistics.median(self.warm), 1)
            found["added_ms_p99_to_p99"] = round(p99_ms - quantile(self.warm, 0.99), 1)
        return found


async def sample(host: RealHost, times: Times, model: str, adapter: str = "") -> None:
    """Time one cold start and its first token, then a warm request of the same kind."""
    began_ms = now_mono_ms()
    start = await host.replicas.make_resident(model, adapter)
    endpoint = await host.endpoint(model, adapter)
    host.replicas.enter(endpoint)
    async with connected(endpoint) as session:
        await first_token_ms(session, endpoint, PROMPT)
        times.cold.append(now_mono_ms() - began_ms)
        times.load.append(start.took_ms)
        times.weights_bytes = start.weights_bytes
        # Another prompt, so that the prefix cache answers neither.
        times.warm.append(await first_token_ms(session, endpoint, f"{len(times.warm)} {PROMPT}"))
    host.replicas.leave(endpoint)


async def adapters_bench(host: RealHost, count: int) -> dict[str, Any]:
    """Load adapters in turn; the first load of each, with its check, apart."""
    await host.endpoint(BASE)
    names = sorted(host.engines.inventory.adapters)
    first, times = Times(), Times()
    for name in names:
        await sample(host, first, BASE, name)
    for number in range(count):
        await sample(host, times, BASE, names[number % len(names)])
    checked_ms = round(statistics.median(first.cold), 1)
    return times.figures() | {"first_load_p50_ms": checked_ms, "first_loads": len(names)}


async def swaps_bench(host: RealHost, count: int) -> dict[str, Any]:
    """Swap two models in turn."""
    await host.endpoint(BASE)
    times = Times()
    for number in range(count):
        await sample(host, times, (TUNED, BASE)[number % 2])
    return times.figures()


async def pulled_bench(host: RealHost, count: int, folder: Path, name: str) -> dict[str, Any]:
    """Load a model or an adapter that is pulled from a peer first, each time to an empty disk."""
    source = host.objects.folders[name]
    if name != TUNED:
        # The nodes of the pair hold models, which have one; vLLM reads none beside an adapter.
        source = Path(shutil.copytree(source, folder / "with-config"))
        shutil.copy(small_model_dir() / "config.json", source)
    pair = PullingPair(folder, source)
    await pair.start()
    pulls, times = [], Times()
    others = [one for one in sorted(host.engines.inventory.adapters) if one != name]
    try:
        for _ in range(count):
            await host.endpoint(BASE)
            pull_ms, host.objects.folders[name] = await pair.pull()
            pulls.append(pull_ms)
            if name == TUNED:
                await sample(host, times, TUNED)
                continue
            for other in others:  # so that the engine no longer has it
                await host.endpoint(BASE, other)
            await sample(host, times, BASE, name)
    finally:
        await pair.close()
    totals = [sum(each) for each in zip(pulls, times.cold, strict=True)]
    return {
        "n": count,
        "p50_ms": round(statistics.median(totals), 1),
        "max_ms": round(max(totals), 1),
        "pull_p50_ms": round(statistics.median(pulls), 1),
        "pull_ms_per_gb": round(statistics.median(pulls) / (times.weights_bytes / 1e9), 1),
    }


async def engines_bench(host: RealHost, count: int) -> dict[str, Any]:
    """Start an engine anew, to the first token."""
    took: list[float] = []
    parts: dict[str, list[float]] = {}
    for _ in range(count):
        for index in list(host.engines.inventory.slots):
            await host.engines.stop(index)
        log = host.state_dir / "engine" / "engine.log"
        log.unlink(missing_ok=True)
        began_ms = now_mono_ms()
        began = datetime.now()  # noqa: DTZ005 - the engine's log has local times
        start = await host.replicas.make_resident(BASE)
        assert start.path is ColdPath.ENGINE
        endpoint = await host.endpoint(BASE)
        async with connected(endpoint) as session:
            await first_token_ms(session, endpoint, PROMPT)
        took.append(now_mono_ms() - began_ms)
        for name, part_ms in parts_of(log.read_text(), began).items():
            parts.setdefault(name, []).append(part_ms)
    return {
        "n": count,
        "p50_ms": round(statistics.median(took)),
        "max_ms": round(max(took)),
        "parts_p50_ms": {name: round(statistics.median(each)) for name, each in parts.items()},
    }


def parts_of(log: str, began: datetime) -> dict[str, float]:
    """Return the parts of a start, in milliseconds, from the times in the engine's log."""
    found: dict[str, float] = {}
    before = began
    for name, pattern in PARTS:
        line = next((one for one in log.splitlines() if re.search(pattern, one)), "")
        stamp = re.search(r"\d\d-\d\d \d\d:\d\d:\d\d", line)
        if stamp is None:
            continue
        at = datetime.strptime(f"{began.year}-{stamp.group()}", "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007
        found[name] = max((at - before).total_seconds() * 1_000, 0.0)
        before = max(at, before)
    return found


def prepare(host: RealHost, folder: Path, adapters: int) -> None:
    """Make the weights, and let the host load all of them."""
    base = small_model_dir()
    objects = host.objects
    models = [objects.model(BASE, base), objects.model(TUNED, fine_tune_of(base, folder))]
    made = [
        objects.adapter(f"acme/a{seed}@1", BASE, adapter_for(base, folder / f"a{seed}", seed))
        for seed in range(adapters)
    ]
    host.replicas.set_desired(
        {one.model: one for one in models}, {one.adapter: one for one in made}
    )


def show(name: str, figures: dict[str, Any]) -> None:
    """Print one row of the table."""
    words = "  ".join(f"{key}={value}" for key, value in figures.items())
    print(f"{name:14} {words}", flush=True)


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="ef-cold-") as temporary:
        folder = Path(temporary)
        host = RealHost(engine_environment(), folder / "s", adapters=SLOTS)
        prepare(host, folder, ADAPTERS)
        try:
            for what, bench, count in (
                ("adapter", adapters_bench, arguments.adapters),
                ("swap", swaps_bench, arguments.swaps),
                ("engine", engines_bench, arguments.engines),
            ):
                if count:
                    report[what] = await bench(host, count)
                    show(what, report[what])
            if arguments.pulled:
                adapter = min(host.engines.inventory.adapters)
                for what, name in (("adapter_pulled", adapter), ("swap_pulled", TUNED)):
                    at = folder / what[0]
                    report[what] = await pulled_bench(host, arguments.pulled, at, name)
                    show(what, report[what])
        finally:
            await host.engines.close()
    return report


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write ``.bench/cold-start.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples, for development")
    parser.add_argument("--adapters", type=int, default=0)
    parser.add_argument("--swaps", type=int, default=0)
    parser.add_argument("--engines", type=int, default=0)
    parser.add_argument(
        "--pulled", type=int, default=0, help="of each, with a pull from a peer first"
    )
    arguments = parser.parse_args(argv)
    if not any((arguments.adapters, arguments.swaps, arguments.engines, arguments.pulled)):
        counts = (20, 10, 1, 2) if arguments.quick else (300, 300, 10, 20)
        arguments.adapters, arguments.swaps, arguments.engines, arguments.pulled = counts
    write_report("cold-start", asyncio.run(run(arguments)))


if __name__ == "__main__":
    main()
