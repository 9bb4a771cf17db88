"""What a prompt's prefix costs on the way of a request.

    python -m tests.bench.prefixes

Writes ``.bench/prefixes.json``: medians in microseconds for prompts of 1, 8 and 200 KB.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from agent.core.prefixes import PrefixMemory, prompt_blocks
from agent.formats.chat import CHAT
from tests.bench.report import write_report
from tests.support.fleets import replica

SIZES_KB = (1, 8, 200)
CANDIDATES = 20
ROUNDS = 500


def median_us(work: Callable[[], object]) -> float:
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return sorted(took)[ROUNDS // 2] * 1e6


def measure(size_kb: int) -> dict[str, float]:
    text = " ".join(f"word{index}" for index in range(size_kb * 1_024 // 8))
    fields = {"messages": [{"role": "system", "content": text}, {"role": "user", "content": "x"}]}
    prompt = CHAT.prompt_prefix(fields)
    blocks = prompt_blocks(prompt, "m", "acme")
    memory = PrefixMemory()
    nodes = [f"node-{index}" for index in range(CANDIDATES)]
    replicas = {node_id: replica(node_id, model="m") for node_id in nodes}
    for node_id in nodes:
        memory.record(node_id, "m", 1, blocks, 0.0)
    return {
        "bytes": len(prompt),
        "prefix_us": median_us(lambda: CHAT.prompt_prefix(fields)),
        "hash_us": median_us(lambda: prompt_blocks(prompt, "m", "acme")),
        "look_up_20_us": median_us(lambda: memory.cached_ratios("m", replicas, blocks, 1.0)),
        "seen_us": median_us(lambda: memory.record("node-3", "m", 1, blocks, 1.0)),
    }


def main() -> None:
    results = {f"{size_kb}_kb": measure(size_kb) for size_kb in SIZES_KB}
    for name, figures in results.items():
        print(name.ljust(8), "  ".join(f"{key} {value:.1f}" for key, value in figures.items()))
    write_report("prefixes", results)


if __name__ == "__main__":
    main()
