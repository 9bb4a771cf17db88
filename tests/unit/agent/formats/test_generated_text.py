"""The bytes that a model has generated, in every shape of answer."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from agent.core.usage_bounds import SILENT_TOKENS
from agent.formats.generated_text import MAX_PARSED_BYTES, text_bytes, whole_text_bytes

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


@pytest.mark.parametrize(
    ("part", "size_bytes"),
    [
        ([{"index": 0, "delta": {"role": "assistant", "content": "häh"}}], 4),
        ([{"delta": {"reasoning": "ab"}}, {"delta": {"content": "c"}}], 3),
        ([{"text": "abc", "logprobs": {"tokens": ["abc"]}, "finish_reason": "stop"}], 3),
        ([{"message": {"content": None, "tool_calls": [CALL]}}], 8 + SILENT_TOKENS),
        ({"type": "text_delta", "text": "ab"}, 2),
        ({"type": "input_json_delta", "partial_json": '{"a"'}, 4),
        ({"type": "tool_use", "name": "f", "input": {"a": 12}}, 9 + SILENT_TOKENS),
        ("abc", 3),
        (None, 0),
        (7, 0),
    ],
)
def test_text_of_events(part, size_bytes) -> None:
    assert text_bytes(part) == size_bytes


@pytest.mark.parametrize(
    "answer",
    [
        {"model": "x", "choices": [{"message": {"role": "assistant", "content": "hello"}}]},
        {"choices": [{"text": "hello"}], "usage": {}},
        {
            "instructions": "long",
            "output": [{"content": [{"type": "output_text", "text": "hello"}]}],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "hello"}]},
    ],
)
def test_text_of_whole_answers_is_without_what_the_request_said(answer: Any) -> None:
    assert whole_text_bytes(orjson.dumps(answer)) == 5


def test_what_is_too_large_or_no_answer_counts_whole() -> None:
    large = orjson.dumps({"choices": [{"text": "x" * MAX_PARSED_BYTES}]})
    assert whole_text_bytes(large) == len(large)
    assert whole_text_bytes(b"[1]") == 3
    assert whole_text_bytes(b"{") == 1
