"""Which prompt blocks are remembered, and which share of a prompt is expected in a cache."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.prefixes import (
    BLOCK_BYTES,
    FORGET_AFTER_MS,
    MAX_BLOCKS,
    MAX_HASHED_BYTES,
    MAX_REPLICA_BLOCKS,
    PRIOR_HIT_RATIO,
    PrefixMemory,
    prompt_blocks,
)
from tests.support.fleets import replica
from tests.support.one_target import cached_ratio

MODEL = "acme/small@1"


def blocks(prompt: bytes, *, model: str = MODEL, salt: str = "acme"):
    return prompt_blocks(prompt, model, salt)


def text(count: int, start: int = 0) -> bytes:
    """``count`` blocks, no two alike."""
    return b"".join(b"%0256d" % number for number in range(start, start + count))


@pytest.fixture
def memory() -> PrefixMemory:
    return PrefixMemory()


def cached(
    memory: PrefixMemory,
    prompt: bytes,
    *,
    node: str = "iad-1",
    generation: int = 1,
    now_mono_ms: float = 0.0,
    salt: str = "acme",
) -> object:
    """The share of ``prompt`` expected in the cache, divided by the hit ratio."""
    ratio = cached_ratio(memory, node, MODEL, generation, blocks(prompt, salt=salt), now_mono_ms)
    return pytest.approx(ratio / memory.hit_ratio(node, MODEL))


def test_without_earlier_prompts_nothing_is_expected_in_the_cache(memory: PrefixMemory) -> None:
    assert cached(memory, text(4)) == 0


def test_a_repeated_prompt_is_expected_in_the_cache_by_the_hit_ratio(
    memory: PrefixMemory,
) -> None:
    memory.record("iad-1", MODEL, 1, blocks(text(10)), 0.0)
    assert cached(memory, text(10)) == 1.0
    assert cached(memory, text(10), node="gru-1") == 0


def test_only_the_shared_prefix_counts(memory: PrefixMemory) -> None:
    memory.record("iad-1", MODEL, 1, blocks(text(4) + text(6, start=100)), 0.0)
    assert cached(memory, text(8)) == 0.5
    assert cached(memory, text(4, start=100)) == 0, "the same text elsewhere is no prefix"


def test_accounts_and_models_share_no_blocks(memory: PrefixMemory) -> None:
    memory.record("iad-1", MODEL, 1, blocks(text(4)), 0.0)
    assert cached(memory, text(4), salt="other") == 0
    assert blocks(text(4), model="other@1").chain != blocks(text(4)).chain


def test_less_than_a_block_is_not_remembered(memory: PrefixMemory) -> None:
    memory.record("iad-1", MODEL, 1, blocks(b"x" * (BLOCK_BYTES - 1)), 0.0)
    assert len(memory) == 0


def test_another_generation_of_the_engine_starts_with_an_empty_cache(
    memory: PrefixMemory,
) -> None:
    memory.record("iad-1", MODEL, 1, blocks(text(4)), 0.0)
    assert cached(memory, text(4), generation=2) == 0
    memory.record("iad-1", MODEL, 2, blocks(text(2, start=50)), 0.0)
    assert cached(memory, text(4), generation=2) == 0
    assert len(memory) == 2


def test_prompts_not_seen_for_long_are_forgotten(memory: PrefixMemory) -> None:
    memory.record("iad-1", MODEL, 1, blocks(text(4)), 0.0)
    memory.record("iad-1", MODEL, 1, blocks(text(2)), 1_000.0)
    assert cached(memory, text(4), now_mono_ms=FORGET_AFTER_MS) == 1.0
    assert cached(memory, text(4), now_mono_ms=FORGET_AFTER_MS + 1.0) == 0.5
    assert cached(memory, text(4), now_mono_ms=FORGET_AFTER_MS + 1_001.0) == 0


def test_a_node_that_fails_or_leaves_is_forgotten(memory: PrefixMemory) -> None:
    for node in ("iad-1", "gru-1"):
        memory.record(node, MODEL, 1, blocks(text(4)), 0.0)
    memory.forget("iad-1")
    assert cached(memory, text(4)) == 0
    assert len(memory) == 4
    memory.forget_all_but(["scl-1"])
    assert len(memory) == 0


def ratio(memory: PrefixMemory) -> float:
    return cached_ratio(memory, "iad-1", MODEL, 1, blocks(text(10)), 0.0)


def test_the_engines_reports_correct_the_hit_ratio(memory: PrefixMemory) -> None:
    memory.record("iad-1", MODEL, 1, blocks(text(10)), 0.0)
    assert ratio(memory) == PRIOR_HIT_RATIO
    for _ in range(200):
        memory.report_hit("iad-1", MODEL, ratio(memory), 0.4)
    assert ratio(memory) == pytest.approx(0.4, abs=0.01)
    for _ in range(200):
        memory.report_hit("iad-1", MODEL, ratio(memory), 1.0)
    assert 0.99 < ratio(memory) <= 1.0


def test_zeros_of_an_engine_that_never_reported_a_hit_are_ignored(
    memory: PrefixMemory,
) -> None:
    memory.record("iad-1", MODEL, 1, blocks(text(10)), 0.0)
    for _ in range(50):
        memory.report_hit("iad-1", MODEL, 0.9, 0.0)
    assert ratio(memory) == PRIOR_HIT_RATIO
    memory.report_hit("iad-1", MODEL, 0.9, 0.9)
    for _ in range(200):
        memory.report_hit("iad-1", MODEL, ratio(memory), 0.0)
    assert 0.0 < ratio(memory) < 0.1, "and there is still something to learn from"


def test_the_hashed_part_of_a_prompt_is_bounded(memory: PrefixMemory) -> None:
    long = blocks(bytes(4 * MAX_HASHED_BYTES))
    assert len(long.chain) == MAX_HASHED_BYTES // BLOCK_BYTES
    memory.record("iad-1", MODEL, 1, long, 0.0)
    assert cached(memory, bytes(4 * MAX_HASHED_BYTES)) == 0.25


def test_one_replica_forgets_its_oldest_blocks_first(memory: PrefixMemory) -> None:
    memory.record("iad-1", MODEL, 1, blocks(text(4)), 0.0)
    for start in range(1_000, 1_000 + MAX_REPLICA_BLOCKS, 512):
        memory.record("iad-1", MODEL, 1, blocks(text(512, start)), 0.0)
    assert len(memory) == MAX_REPLICA_BLOCKS
    assert cached(memory, text(4)) == 0
    assert cached(memory, text(4, start=1_000)) == 1.0


def test_all_together_are_bounded_and_the_replica_unused_for_longest_gives() -> None:
    assert MAX_BLOCKS * 160 < 25_000_000, "bytes of memory, at about 160 an entry"
    memory = PrefixMemory(max_blocks=10)
    for number in range(5):
        memory.record(f"node-{number}", MODEL, 1, blocks(text(4)), 0.0)
        assert len(memory) <= 10
    assert cached(memory, text(4), node="node-0") == 0
    assert cached(memory, text(4), node="node-4") == 1.0


@given(
    seen=st.lists(st.lists(st.integers(0, 3), max_size=6), max_size=20),
    asked=st.lists(st.integers(0, 3), min_size=1, max_size=6),
)
def test_the_longest_prefix_seen_before_is_expected_in_the_cache(
    seen: list[list[int]], asked: list[int]
) -> None:
    memory = PrefixMemory()
    for prompt in seen:
        memory.record("n", MODEL, 1, blocks(b"".join(text(1, each) for each in prompt)), 0.0)
    longest = 0
    for prompt in seen:
        shared = 0
        while shared < min(len(prompt), len(asked)) and prompt[shared] == asked[shared]:
            shared += 1
        longest = max(longest, shared)
    whole = b"".join(text(1, each) for each in asked)
    assert cached(memory, whole, node="n") == longest / len(asked)


def test_an_adapters_prefix_is_expected_neither_from_its_base_nor_from_another_adapter() -> None:
    memory = PrefixMemory()
    prompt = b"a" * 4 * BLOCK_BYTES
    there = {"iad-1": replica("iad-1", model="acme/m@1")}

    def asked(name: str):
        return prompt_blocks(prompt, name, "acme")

    memory.record("iad-1", "acme/m@1", 1, asked("acme/fr@1"), 0.0)
    assert memory.cached_ratios("acme/m@1", there, asked("acme/m@1"), 1.0) == {}
    assert memory.cached_ratios("acme/m@1", there, asked("acme/de@1"), 1.0) == {}
    assert memory.cached_ratios("acme/m@1", there, asked("acme/fr@1"), 1.0)["iad-1"] > 0.0
