"""Prefix affinity acts only through the prediction, so it can never overload a replica."""

from __future__ import annotations

import heapq
from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.prefixes import BLOCK_BYTES, PrefixMemory, prompt_blocks
from protos.domain.ttft import network_to, predict
from tests.support.fleets import MODEL, profile
from tests.support.one_target import cached_ratio

PARALLEL = 4
#: One place in a queue costs 211 tokens at this speed, about 53 ms.
PROFILE = profile(20.0, prefill_ms_per_token=0.05, max_parallel=PARALLEL, tokens_per_s=4_000.0)
TOKENS = 2_048
QUEUE_MS = 211.0 * 1_000.0 / 4_000.0
MISS_MS = TOKENS * 0.05
SERVE_MS = 400.0


def prompt_of(prefix: int):
    text = b"%04d" % prefix * (TOKENS * 4 // 4)
    assert len(text) > BLOCK_BYTES
    return prompt_blocks(text, MODEL, "acme")


@settings(max_examples=30, deadline=None)
@given(
    replicas=st.integers(2, 6),
    hot_share=st.floats(0.5, 1.0),
    load=st.floats(0.2, 1.5),
    seed=st.integers(0, 2**32),
)
def test_a_skewed_prefix_never_queues_longer_than_its_miss_costs(
    replicas: int, hot_share: float, load: float, seed: int
) -> None:
    """Most requests share a prefix. One queue exceeds another by at most the cost of a miss."""
    rng = Random(seed)
    memory = PrefixMemory()
    running: list[tuple[float, str]] = []
    in_flight: Counter[str] = Counter()
    names = [f"node-{number}" for number in range(replicas)]
    worth = MISS_MS / QUEUE_MS + 1
    now_ms, hits = 0.0, 0
    for number in range(300):
        now_ms += rng.expovariate(load * replicas * PARALLEL / SERVE_MS)
        while running and running[0][0] <= now_ms:
            in_flight[heapq.heappop(running)[1]] -= 1
        prompt = prompt_of(0 if rng.random() < hot_share else number + 1)

        def expected_ms(name: str, prompt=prompt, now_ms=now_ms) -> float:
            cached = int(TOKENS * cached_ratio(memory, name, MODEL, 1, prompt, now_ms))
            return predict(
                PROFILE,
                network_to(0.0, warm=True, body_bytes=0),
                rtt_ms_p99=0.0,
                in_flight=in_flight[name],
                queued=0,
                prompt_tokens=TOKENS - cached,
            ).ttft_ms_p99

        chosen = min(names, key=expected_ms)
        hits += cached_ratio(memory, chosen, MODEL, 1, prompt, now_ms) > 0.0
        least = min(in_flight[name] for name in names)
        queued = max(0, in_flight[chosen] + 1 - PARALLEL)
        least_queued = max(0, least + 1 - PARALLEL)
        assert queued - least_queued <= worth
        memory.record(chosen, MODEL, 1, prompt, now_ms)
        in_flight[chosen] += 1
        heapq.heappush(running, (now_ms + SERVE_MS, chosen))
    assert hits >= 0.4 * hot_share * 300, "and what is cached is used"
