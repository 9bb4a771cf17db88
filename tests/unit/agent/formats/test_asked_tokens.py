"""What a body says about its tokens."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from agent.core.usage_bounds import SILENT_TOKENS, SILENT_TOKENS_WITH_TOOLS, AskedTokens
from agent.formats import ApiFormat
from agent.formats.asked_tokens import asked_tokens
from agent.formats.chat import CHAT
from agent.formats.completions import COMPLETIONS
from agent.formats.embeddings import EMBEDDINGS
from agent.formats.messages import MESSAGES
from agent.formats.responses import RESPONSES


def asked(api: ApiFormat, **fields: Any) -> AskedTokens:
    return asked_tokens(api, fields, orjson.dumps(fields), 4_096)


def test_a_plain_body_is_one_sequence_without_a_limit() -> None:
    found = asked(CHAT, messages=[{"role": "user", "content": "hi"}])
    assert found == AskedTokens(found.body_bytes, 4_096)


@pytest.mark.parametrize(
    ("api", "fields", "most"),
    [
        (CHAT, {"max_tokens": 5}, 5),
        (CHAT, {"max_tokens": 5, "max_completion_tokens": 9}, 9),
        (RESPONSES, {"max_output_tokens": 7}, 7),
        (MESSAGES, {"max_tokens": 3}, 3),
        (CHAT, {"max_tokens": "5"}, None),
        (CHAT, {"max_tokens": None}, None),
        (CHAT, {"max_tokens": True}, None),
        (CHAT, {"max_output_tokens": 1}, None),
        (CHAT, {"max_tokens": 9, "max_output_tokens": 1_000}, 9),
        (COMPLETIONS, {"max_completion_tokens": 1}, None),
        (COMPLETIONS, {"max_completion_tokens": 1_000, "max_tokens": 9}, 9),
        (RESPONSES, {"max_tokens": 1, "max_completion_tokens": 1}, None),
        (MESSAGES, {"max_output_tokens": 1, "max_tokens": 3}, 3),
    ],
)
def test_the_limit_is_read_in_each_formats_words(api, fields, most) -> None:
    assert asked(api, **fields).max_tokens == most


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_tokens", 4_000),
        ("logit_bias", {"128010": 100}),
        ("allowed_token_ids", [128_010]),
        ("ignore_eos", True),
    ],
)
def test_a_client_that_chooses_tokens_without_text_makes_no_honest_host_a_cheat(name, value):
    assert asked(CHAT, **{name: value}).silent_tokens is None


def test_copies_and_prompts_multiply() -> None:
    found = asked(COMPLETIONS, prompt=["a", "b", [1, 2]], n=2)
    assert (found.prompts, found.sequences) == (3, 6)
    assert asked(COMPLETIONS, prompt=[1, 2, 3], best_of="3").sequences == 3, "one list of tokens"
    assert asked(CHAT, n=2.0).sequences == 2
    assert asked(CHAT, n="many").sequences == 1
    assert asked(EMBEDDINGS, input=["a", "b"]).prompts == 2
    assert asked(EMBEDDINGS, input="a").embeds


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}},
    ],
)
def test_media_is_seen(part) -> None:
    assert asked(CHAT, messages=[{"role": "user", "content": [part]}]).has_media


def test_silent_tokens_are_more_with_tools_and_a_stop_string_and_unknown_where_text_is_hidden():
    assert asked(CHAT).silent_tokens == SILENT_TOKENS
    assert asked(CHAT, tools=[{}]).silent_tokens == SILENT_TOKENS_WITH_TOOLS
    assert asked(CHAT, stop=["abc", "é"]).silent_tokens == SILENT_TOKENS + 3
    assert asked(MESSAGES, stop_sequences=["abcd"]).silent_tokens == SILENT_TOKENS + 4
    assert asked(CHAT, include_reasoning=False).silent_tokens is None
    assert asked(CHAT, include_reasoning=True).silent_tokens == SILENT_TOKENS
    assert asked(CHAT, parallel_tool_calls=False).silent_tokens is None
    assert asked(CHAT, ignore_eos=True).silent_tokens is None


@pytest.mark.parametrize(
    "spelled",
    [
        r"\u0064ata:",
        r"d\u0061ta:",
        r"da\u0074a:",
        r"data\u003a",
        r"data\u003A",
        r"\u0044ATA:",
        "data:",
    ],
)
def test_media_that_is_spelled_with_escapes_is_media(spelled: str) -> None:
    body = b'{"url":"%s,AA"}' % spelled.encode()
    assert orjson.loads(body)["url"].lower() == "data:,aa"
    assert asked_tokens(CHAT, {}, body, 4_096).most_prompt_tokens() == 4_096
