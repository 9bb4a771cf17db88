"""A prompt's least length, in every format."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.routes import Api
from agent.gateway.prompt_size import estimate_prompt_tokens

WORDS = "x" * 800


@pytest.mark.parametrize(
    ("api", "fields", "tokens"),
    [
        (Api.CHAT, {"messages": [{"role": "user", "content": WORDS}]}, 100),
        (Api.CHAT, {"messages": [{"content": [{"type": "text", "text": WORDS}]}] * 2}, 200),
        (Api.CHAT, {"metadata": {"a": WORDS}, "tools": [WORDS], "logit_bias": {WORDS: 1}}, 1),
        (Api.COMPLETIONS, {"prompt": WORDS}, 100),
        (Api.COMPLETIONS, {"prompt": [WORDS, "x"]}, 100),
        (Api.COMPLETIONS, {"prompt": list(range(50))}, 50),
        (Api.COMPLETIONS, {"prompt": [[1, 2], [1, 2, 3]]}, 3),
        (Api.COMPLETIONS, {"prompt": WORDS, "truncate_prompt_tokens": 5}, 1),
        (Api.RESPONSES, {"input": WORDS, "instructions": WORDS}, 200),
        (Api.RESPONSES, {"input": [{"content": [{"text": WORDS}]}]}, 100),
        (Api.RESPONSES, {"input": WORDS, "truncation": "auto"}, 1),
        (Api.EMBEDDINGS, {"input": [WORDS] * 1000}, 100),
        (Api.MESSAGES, {"system": [{"text": WORDS}], "messages": [{"content": WORDS}]}, 200),
        (Api.MESSAGES, {"messages": [{"content": [{"thinking": WORDS, "signature": WORDS}]}]}, 1),
        (Api.CHAT, {}, 1),
        (Api.CHAT, {"messages": 5}, 1),
        (Api.EMBEDDINGS, {"input": []}, 1),
    ],
)
def test_only_text_of_the_prompt_counts_and_of_a_batch_the_longest(
    api: Api, fields: dict[str, Any], tokens: int
) -> None:
    assert estimate_prompt_tokens(api, fields) == tokens


def test_more_than_is_looked_at_is_not_counted() -> None:
    fields = {"messages": [{"content": "x" * 8}] * 200_000}
    assert estimate_prompt_tokens(Api.CHAT, fields) <= 100_000
