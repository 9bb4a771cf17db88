"""Prompts times answers, and the longest answer, as an engine reads them."""

from __future__ import annotations

import math

import pytest

from agent.formats.sequences import count_sequences, most_answer_tokens


@pytest.mark.parametrize(
    ("fields", "is_batched", "sequences"),
    [
        ({"prompt": "hello"}, True, 1),
        ({"prompt": ["a"] * 2_048, "n": 8}, True, 16_384),
        ({"prompt": ["a", "b"], "n": "3"}, True, 6),
        ({"prompt": [1, 2, 3]}, True, 1),
        ({"prompt": [[1, 2], [3]], "n": 2.0}, True, 4),
        ({"prompt": "hello", "n": 1, "best_of": 4}, True, 4),
        ({"input": ["a", "b", "c"]}, True, 3),
        ({"prompt": []}, True, 1),
        ({"messages": [{}, {}], "n": 4}, False, 4),
        ({"input": ["a", "b"]}, False, 1),
        ({"n": None}, False, 1),
        ({"n": -2}, False, 1),
        ({"n": "many"}, False, 1),
        ({"n": math.inf}, False, 1),
    ],
)
def test_a_request_counts_as_its_prompts_times_its_answers(
    fields: dict[str, object], is_batched: bool, sequences: int
) -> None:
    assert count_sequences(fields, is_batched=is_batched) == sequences


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, math.inf),
        ({"max_tokens": 16}, 16.0),
        ({"max_tokens": "16", "max_completion_tokens": 8}, 8.0),
        ({"max_output_tokens": 32}, 32.0),
        ({"max_tokens": 0}, math.inf),
        ({"max_tokens": []}, math.inf),
    ],
)
def test_the_longest_answer_is_the_least_of_the_limits(
    fields: dict[str, object], tokens: float
) -> None:
    assert most_answer_tokens(fields) == tokens
