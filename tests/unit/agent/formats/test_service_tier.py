"""A service tier is noted, kept from engines, and answered in the words of each format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.formats import ApiFormat
from agent.formats.chat import CHAT
from agent.formats.messages import MESSAGES
from agent.formats.responses import RESPONSES
from agent.formats.service_tier import OTHER, served_word, take_service_tier, with_word
from protos.domain.errors import InvalidRequest
from protos.domain.resources import SlaTier


def test_a_word_is_taken_out_of_the_body_and_a_strangers_is_noted_as_other() -> None:
    fields: dict[str, object] = {"service_tier": "standard_only", "model": "m"}
    assert take_service_tier(fields) == "standard_only"
    assert fields == {"model": "m"}
    assert take_service_tier(fields) == ""
    assert take_service_tier({"service_tier": "x" * 10_000}) == OTHER
    with pytest.raises(InvalidRequest, match="not a text"):
        take_service_tier({"service_tier": 1})


@pytest.mark.parametrize(
    ("sla_tier", "openai", "anthropic"),
    [
        (SlaTier.REALTIME, "priority", "priority"),
        (SlaTier.INTERACTIVE, "default", "standard"),
        (SlaTier.STANDARD, "default", "standard"),
    ],
)
def test_the_answer_says_what_was_served_in_the_formats_own_words(
    sla_tier: SlaTier, openai: str, anthropic: str
) -> None:
    assert served_word(sla_tier, is_anthropic=False) == openai
    assert served_word(sla_tier, is_anthropic=True) == anthropic


def test_a_whole_answer_keeps_everything_else_and_long_numbers() -> None:
    body = b'{"id":"x","big":123456789012345678901234567890,"service_tier":null}'
    assert b"123456789012345678901234567890" in with_word(body, "default", in_usage=False)
    assert json.loads(with_word(body, "default", in_usage=False))["service_tier"] == "default"
    message = b'{"usage":{"input_tokens":1}}'
    told = json.loads(with_word(message, "standard", in_usage=True))
    assert told == {"usage": {"input_tokens": 1, "service_tier": "standard"}}
    for odd in (b"[1]", b"{", b'{"a":1}'):
        assert b"standard" not in with_word(odd, "standard", in_usage=True)


def event(body: dict[str, Any], name: str = "") -> bytes:
    data = b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"
    return f"event: {name}\n".encode() + data if name else data


STREAMS = {
    CHAT: [
        event({"choices": [{"delta": {"content": 'a","service_tier":"x'}}]}),
        event({"choices": [{"delta": {"content": "b"}}], "service_tier": None}),
        event({"choices": [{"delta": {"content": "c"}}], "service_tier": "auto", "z": 1}),
    ],
    RESPONSES: [
        event({"response": {"service_tier": "auto", "usage": None}}, "response.created"),
        event({"delta": "a"}, "response.output_text.delta"),
        event({"response": {"service_tier": "auto", "usage": {}}}, "response.completed"),
    ],
    MESSAGES: [
        event({"message": {"usage": {"input_tokens": 1}}}, "message_start"),
        event({"delta": {"type": "text_delta", "text": "a"}}, "content_block_delta"),
    ],
}


@pytest.mark.parametrize("api", STREAMS, ids=lambda api: api.path)
@pytest.mark.parametrize("asked", [False, True])
def test_a_stream_tells_it_where_its_format_has_it_and_only_if_it_was_asked_for(
    api: ApiFormat, asked: bool
) -> None:
    stream = api.event_stream(include_usage=False, continuous_usage=False)
    if asked:
        stream.tell_service_tier("standard" if api is MESSAGES else "default")
    passed = b"".join(map(stream.feed, STREAMS[api])) + stream.last_events()
    if not asked:
        assert passed == b"".join(STREAMS[api])
        return
    for one in passed.split(b"\n\n")[:-1]:
        name, _, data = one.rpartition(b"data: ")
        message = json.loads(data)
        if api is CHAT:
            assert message["service_tier"] == "default"
        elif b"response.c" in name:
            assert message["response"]["service_tier"] == "default"
        elif b"message_start" in name:
            assert message["message"]["usage"] == {"input_tokens": 1, "service_tier": "standard"}
        else:
            assert "service_tier" not in message
    assert b'a\\",\\"service_tier\\":\\"x' in passed or api is not CHAT, "a client's text is kept"
