"""The bytes that a model has generated, in every shape of answer."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from agent.core.usage_bounds import SILENT_TOKENS
from agent.formats.generated_text import (
    MAX_PARSED_BYTES,
    plain_delta_bytes,
    plain_text_bytes,
    text_bytes,
    whole_text_bytes,
)

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


_HEAD, _END = b'data: {"id":"x","model":"m",', b',"logprobs":null,"finish_reason":null}]'
_USAGE = b',"usage":{"prompt_tokens":1,"completion_tokens":1}}'


@pytest.mark.parametrize(
    "choices",
    [
        b'"choices":[{"index":0,"delta":{"content":"h\xc3\xa4h"}',
        b'"choices":[{"index":12,"text":"abc"',
        b'"choices":[{"index":0,"delta":{"role":"assistant","content":"ab"}',
        b'"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop","stop_reason":null',
    ],
)
def test_a_usual_event_is_measured_without_being_parsed(choices: bytes) -> None:
    event = _HEAD + choices + _END + _USAGE
    parsed = orjson.loads(event.removeprefix(b"data: "))
    assert plain_text_bytes(event) == text_bytes(parsed["choices"])


def test_the_event_of_the_usage_has_no_text() -> None:
    assert plain_text_bytes(_HEAD + b'"choices":[]' + _USAGE) == 0


@pytest.mark.parametrize(
    "event",
    [
        _HEAD + b'"choices":[{"index":0,"delta":{"content":"a\\nb"}' + _END + b"}",
        _HEAD + b'"choices":[{"index":0,"delta":{"content":"a","reasoning":"b"}' + _END + b"}",
        _HEAD + b'"choices":[{"index":0,"delta":{"content":"a"},"stop_reason":"b"}]}',
        _HEAD + b'"choices":[{"index":0,"text":"a"},{"index":1,"text":"b"}]}',
        _HEAD + b'"choices":[{"index":0,"text":"a"}],"choices": []}',
        _HEAD + b'"x":{"choices":[{"index":0,"text":"a"}]}}',
        _HEAD + b'"choices":[{"index":0,"text":"a","name":"b"}]}',
        b"data: {}",
    ],
)
def test_any_other_event_has_to_be_parsed_for_its_text(event: bytes) -> None:
    assert plain_text_bytes(event) == -1


@pytest.mark.parametrize(
    ("payload", "size_bytes"),
    [
        (b'{"content_index":0,"delta":"h\xc3\xa4h","logprobs":[],"type":"x.delta"}', 4),
        (b'{"type":"x","index":0,"delta":{"type":"text_delta","text":"abc"}}', 3),
        (b'{"type":"x","index":0,"delta":{"type":"text_delta","text":"a\\nb"}}', -1),
        (b'{"type":"x","delta":{"type":"text_delta","text":"abc","more":"d"}}', -1),
        (b'{"type":"x","delta":"abc","delta":"d"}', -1),
        (b'{"x":{"delta":"abc"}}', -1),
        (b'{"type":"x","delta":{"type":"input_json_delta","partial_json":"{"}}', -1),
    ],
)
def test_a_usual_named_event_is_measured_without_being_parsed(
    payload: bytes, size_bytes: int
) -> None:
    assert plain_delta_bytes(payload) == size_bytes
    if size_bytes >= 0:
        assert text_bytes(orjson.loads(payload)["delta"]) == size_bytes
