"""Bytes a token, as the engine counts them."""

from __future__ import annotations

import pytest

from agent.core.prompt_tokens import START_BYTES_PER_TOKEN, PromptTokens


def test_the_ratio_is_learned_by_name():
    tokens = PromptTokens()
    assert tokens.estimate("a", 4_500) == round(4_500 / START_BYTES_PER_TOKEN)
    for _ in range(200):
        tokens.counted("a", 3_000, 1_000)
    assert tokens.estimate("a", 3_000) == pytest.approx(1_000, abs=2)
    assert tokens.bytes_per_token("b") == START_BYTES_PER_TOKEN


def test_nonsense_and_nothing_are_bounded():
    tokens = PromptTokens(max_names=2)
    tokens.counted("a", 0, 5)
    assert len(tokens) == 0
    for name in "abc":
        tokens.counted(name, 10**9, 1)
    assert len(tokens) == 2
    assert tokens.bytes_per_token("c") == pytest.approx(64.0)
    assert tokens.estimate("c", 1) == 1
