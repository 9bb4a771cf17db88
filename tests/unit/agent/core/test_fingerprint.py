"""Weights are known again by what they say to fixed prompts."""

from __future__ import annotations

import pytest

from agent.core.fingerprint import TOLERANCE, Take, difference, has_effect

TAKE = Take((1, 2, 3), (-0.5, -2.0, -0.25))


def moved(by: float) -> Take:
    first, *rest = TAKE.logprobs
    return Take(TAKE.token_ids, (first + by, *rest))


def test_equal_takes_are_of_the_same_weights():
    assert difference(TAKE, TAKE, TOLERANCE["cpu"]) == ""
    assert not has_effect(TAKE, TAKE, 0.005)


@pytest.mark.parametrize("by", [0.5, -0.5])
def test_a_logprob_that_differs_tells_other_weights(by):
    assert "differs by 0.500" in difference(TAKE, moved(by), 0.02)
    assert has_effect(TAKE, moved(by), 0.005)


def test_what_a_device_varies_by_itself_is_allowed():
    assert difference(TAKE, moved(0.2), TOLERANCE["cuda"]) == ""


def test_other_tokens_of_a_prompt_are_another_tokenizer():
    assert difference(TAKE, Take((1, 2), (-0.5, -2.0)), 0.02)
    assert has_effect(TAKE, Take((1, 2), (-0.5, -2.0)), 0.005)


def test_another_answer_is_other_weights_on_a_cpu():
    assert difference(TAKE, Take((1, 2, 4), TAKE.logprobs), TOLERANCE["cpu"])


def test_an_adapter_that_moves_nothing_has_no_effect():
    assert not has_effect(TAKE, moved(0.001), 0.005)
