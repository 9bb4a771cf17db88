"""What is read of an engine's answers to the prompts of a fingerprint."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.fingerprint import PROMPTS, TOP
from agent.engine.control import read_take


def choice(index: int, **changed: Any) -> dict[str, Any]:
    return {
        "index": index,
        "prompt_token_ids": [index, 2],
        "token_ids": [7],
        "logprobs": {
            "token_logprobs": [-0.5],
            "top_logprobs": [{"a": -2.0, "b": -0.5, "c": -1.0}],
        },
    } | changed


def answer(*choices: dict[str, Any]) -> dict[str, Any]:
    return {"choices": list(choices) or [choice(index) for index in range(len(PROMPTS))]}


def test_ids_and_logprobs_are_read_in_the_order_of_the_prompts():
    shuffled = answer(*(choice(index) for index in reversed(range(len(PROMPTS)))))
    take = read_take(shuffled, len(PROMPTS))
    assert take == read_take(answer(), len(PROMPTS))
    assert take.token_ids[:6] == (0, 2, 7, 1, 2, 7)
    assert take.logprobs[: 1 + TOP] == (-0.5, -0.5, -1.0, -2.0, -2.0, -2.0)


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"choices": []},
        {"choices": [choice(0)]},
        answer(*(choice(index, logprobs=None) for index in range(len(PROMPTS)))),
        answer(*(choice(index, token_ids=None) for index in range(len(PROMPTS)))),
    ],
)
def test_an_answer_without_them_is_no_take(bad: dict[str, Any]):
    with pytest.raises((KeyError, TypeError, ValueError)):
        read_take(bad, len(PROMPTS))
