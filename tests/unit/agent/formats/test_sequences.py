"""Prompts times answers, and the longest answer, as an engine reads them."""

from __future__ import annotations

import math

import pytest

from agent.formats import ApiFormat
from agent.formats.chat import CHAT
from agent.formats.completions import COMPLETIONS
from agent.formats.messages import MESSAGES
from agent.formats.responses import RESPONSES
from agent.formats.sequences import answers_to_each, count_sequences, most_answer_tokens


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
    ("api", "fields", "tokens"),
    [
        (CHAT, {}, math.inf),
        (CHAT, {"max_tokens": 16}, 16.0),
        (CHAT, {"max_tokens": "16", "max_completion_tokens": 8}, 16.0),
        (CHAT, {"max_output_tokens": 1}, math.inf),
        (COMPLETIONS, {"max_completion_tokens": 1}, math.inf),
        (RESPONSES, {"max_output_tokens": 32, "max_tokens": 1}, 32.0),
        (MESSAGES, {"max_tokens": 3, "max_output_tokens": 1}, 3.0),
        (CHAT, {"max_tokens": 0}, math.inf),
        (CHAT, {"max_tokens": []}, math.inf),
    ],
)
def test_the_longest_answer_is_limited_by_the_fields_that_its_format_has(
    api: ApiFormat, fields: dict[str, object], tokens: float
) -> None:
    """A field of another format, which the engine ignores, made a long answer count as short."""
    assert most_answer_tokens(fields, api.limit_fields) == tokens


@pytest.mark.parametrize(("n", "answers"), [(None, 1), (0, 1), (4, 4), ("3", 3), (2.0, 2)])
def test_answers_to_each_prompt_are_n(n: object, answers: int) -> None:
    assert answers_to_each({"n": n, "prompt": ["a", "b"]}) == answers
