"""A prompt's least length, in every format."""

from __future__ import annotations

from typing import Any

import pytest

from agent.formats import ApiFormat
from agent.formats.chat import CHAT
from agent.formats.completions import COMPLETIONS
from agent.formats.embeddings import EMBEDDINGS
from agent.formats.messages import MESSAGES
from agent.formats.responses import RESPONSES

WORDS = "x" * 800


@pytest.mark.parametrize(
    ("api", "fields", "tokens"),
    [
        (CHAT, {"messages": [{"role": "user", "content": WORDS}]}, 100),
        (CHAT, {"messages": [{"content": [{"type": "text", "text": WORDS}]}] * 2}, 200),
        (CHAT, {"metadata": {"a": WORDS}, "tools": [WORDS], "logit_bias": {WORDS: 1}}, 1),
        (COMPLETIONS, {"prompt": WORDS}, 100),
        (COMPLETIONS, {"prompt": [WORDS, "x"]}, 100),
        (COMPLETIONS, {"prompt": list(range(50))}, 50),
        (COMPLETIONS, {"prompt": [[1, 2], [1, 2, 3]]}, 3),
        (COMPLETIONS, {"prompt": WORDS, "truncate_prompt_tokens": 5}, 1),
        (RESPONSES, {"input": WORDS, "instructions": WORDS}, 200),
        (RESPONSES, {"input": [{"content": [{"text": WORDS}]}]}, 100),
        (RESPONSES, {"input": WORDS, "truncation": "auto"}, 1),
        (EMBEDDINGS, {"input": [WORDS] * 1000}, 100),
        (MESSAGES, {"system": [{"text": WORDS}], "messages": [{"content": WORDS}]}, 200),
        (MESSAGES, {"messages": [{"content": [{"thinking": WORDS, "signature": WORDS}]}]}, 1),
        (CHAT, {"messages": [{"content": [{"image_url": {"url": "data:" + WORDS}}]}]}, 1),
        (RESPONSES, {"input": [{"content": [{"image_url": "data:" + WORDS}]}]}, 1),
        (MESSAGES, {"messages": [{"content": [{"source": {"data": WORDS}}]}]}, 1),
        (CHAT, {}, 1),
        (CHAT, {"messages": 5}, 1),
        (EMBEDDINGS, {"input": []}, 1),
    ],
)
def test_only_text_of_the_prompt_counts_and_of_a_batch_the_longest(
    api: ApiFormat, fields: dict[str, Any], tokens: int
) -> None:
    assert api.estimate_prompt_tokens(fields) == tokens


def test_more_than_is_looked_at_is_not_counted() -> None:
    fields = {"messages": [{"content": "x" * 8}] * 200_000}
    assert CHAT.estimate_prompt_tokens(fields) <= 100_000
