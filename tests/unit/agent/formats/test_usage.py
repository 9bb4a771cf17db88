"""One kind of usage out of what five formats say."""

from __future__ import annotations

import pytest

from agent.formats.usage import MAX_TOKENS, read_usage, recounted, with_usage
from protos.domain.pricing import Usage


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 3}, Usage(7, 0, 3)),
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 5}}, Usage(7, 5, 0)),
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 9}}, Usage(7, 7, 0)),
        ({"prompt_tokens": 7, "total_tokens": 7}, Usage(7, 0, 0)),
        (
            {"input_tokens": 32, "input_tokens_details": {"cached_tokens": 16}, "output_tokens": 3},
            Usage(32, 16, 3),
        ),
        ({"input_tokens": 32, "input_tokens_details": None, "output_tokens": 3}, Usage(32, 0, 3)),
        ({"input_tokens": 32, "output_tokens": 3}, Usage(32, 0, 3)),
        (
            {"input_tokens": 2, "cache_read_input_tokens": 16, "output_tokens": 1},
            Usage(18, 16, 1),
        ),
        (
            {"input_tokens": 2, "cache_read_input_tokens": 16, "cache_creation_input_tokens": 4},
            Usage(22, 16, 0),
        ),
        ({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 0}}, Usage(7, 0, 0)),
        ({"input_tokens": 7, "input_tokens_details": {"cached_tokens": 0}}, Usage(7, 0, 0)),
        ({"input_tokens": 7, "cache_read_input_tokens": 0}, Usage(7, 0, 0)),
        ({"prompt_tokens": 7, "prompt_tokens_details": None}, Usage(7, 0, 0)),
        ({}, Usage(0, 0, 0)),
        ({"prompt_tokens": "7", "completion_tokens": -3}, Usage(0, 0, 0)),
        ({"prompt_tokens": True, "completion_tokens": None}, Usage(0, 0, 0)),
        ({"prompt_tokens": 10**30}, Usage(MAX_TOKENS, 0, 0)),
    ],
)
def test_every_way_of_saying_it_is_read(said: dict[str, object], usage: Usage) -> None:
    assert read_usage(said) == usage


def test_a_recount_keeps_the_fields_of_its_format() -> None:
    chat = {"prompt_tokens": 9, "total_tokens": 10, "completion_tokens": 1}
    chat |= {"prompt_tokens_details": None, "extra": 5}
    assert recounted(chat, Usage(4, 1, 2)) == {
        "prompt_tokens": 4,
        "total_tokens": 6,
        "completion_tokens": 2,
        "prompt_tokens_details": None,
        "extra": 5,
    }
    message = {"input_tokens": 9, "output_tokens": 9, "cache_read_input_tokens": 9}
    again = recounted(message, Usage(4, 1, 2))
    assert again == {"input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": 1}
    assert read_usage(again) == Usage(4, 1, 2)


def test_another_usage_in_a_whole_answer_leaves_the_rest() -> None:
    body = b'{"id":123456789012345678901234567890,"usage":{"prompt_tokens":9},"x":[1]}'
    assert with_usage(body, {"prompt_tokens": 1}) == (
        b'{"id":123456789012345678901234567890,"usage":{"prompt_tokens":1},"x":[1]}'
    )
    assert with_usage(b"no answer", {}) == b"no answer"
    assert with_usage(b"[1]", {}) == b"[1]"
