"""Answers that a client has chosen to be empty are made all the same."""

from __future__ import annotations

from typing import Any

import pytest

from agent.formats.emptiness import free_end_tokens, tells_prompt


def test_the_end_of_each_sequence_is_free_where_the_model_chose_it() -> None:
    assert free_end_tokens({"messages": [], "n": 3}, 3) == 3
    assert free_end_tokens({"stop": None, "logprobs": False, "echo": False}, 1) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"logprobs": True},
        {"logprobs": 0},
        {"top_logprobs": 5},
        {"allowed_token_ids": [2]},
        {"logit_bias": {"2": 100}},
        {"stop_token_ids": [2]},
        {"stop": ["a"]},
        {"stop_sequences": ["a"]},
        {"min_tokens": 1},
        {"ignore_eos": True},
        {"return_token_ids": True},
        {"structured_outputs": {"choice": [""]}},
        {"prompt_logprobs": 0},
        {"echo": True},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_client_that_chooses_tokens_or_looks_at_them_gets_no_token_free(
    fields: dict[str, Any],
) -> None:
    assert free_end_tokens(fields, 4) == 0


@pytest.mark.parametrize(
    ("fields", "told"),
    [({}, False), ({"echo": False}, False), ({"echo": True}, True), ({"prompt_logprobs": 0}, True)],
)
def test_an_answer_about_its_prompt_is_made_of_it(fields: dict[str, Any], told: bool) -> None:
    assert tells_prompt(fields) is told
