"""One kind of usage out of what five formats say."""

from __future__ import annotations

import pytest

from agent.formats.usage import MAX_TOKENS, read_usage
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
