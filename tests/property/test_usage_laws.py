"""Honest counts of every format pass; impossible ones are bounded in what clients are shown."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.usage_bounds import UsageCheck
from agent.formats import ApiFormat
from agent.formats.asked_tokens import asked_tokens
from agent.formats.chat import CHAT
from agent.formats.completions import COMPLETIONS
from agent.formats.generated_text import whole_text_bytes
from agent.formats.messages import MESSAGES
from agent.formats.responses import RESPONSES
from agent.formats.usage import checked_counts, read_usage
from protos.domain.pricing import MAX_TOKENS

LIES = [(MAX_TOKENS, MAX_TOKENS), (7, MAX_TOKENS), (10**30, 1), (-5, 1), (9_999, 9)]
#: Pieces of text that an engine sent together, each of one token or of several.
PIECES = st.lists(st.text(max_size=6), max_size=12)
FORMATS = [CHAT, COMPLETIONS, RESPONSES, MESSAGES]


def told(api: ApiFormat, prompt: int, completion: int) -> dict[str, object]:
    if api is MESSAGES:
        return {"input_tokens": prompt, "output_tokens": completion}
    if api is RESPONSES:
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + completion,
        }
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def event(body: dict[str, object], name: str = "") -> bytes:
    data = b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"
    return f"event: {name}\n".encode() + data if name else data


def stream(api: ApiFormat, pieces: list[str], usage: dict[str, object]) -> bytes:
    """The answer as vLLM streams it."""
    if api is MESSAGES:
        start = {"usage": {"input_tokens": usage["input_tokens"], "output_tokens": 0}}
        events = [event({"type": "message_start", "message": start}, "message_start")]
        for text in pieces:
            delta = {"type": "text_delta", "text": text}
            body = {"type": "content_block_delta", "delta": delta}
            events.append(event(body, "content_block_delta"))
        events.append(event({"delta": {}, "usage": usage}, "message_delta"))
        return b"".join([*events, event({}, "message_stop")])
    if api is RESPONSES:
        name = "response.output_text.delta"
        events = [event({"response": {"usage": None}}, "response.created")]
        events += [event({"delta": text}, name) for text in pieces]
        return b"".join([*events, event({"response": {"usage": usage}}, "response.completed")])
    events = []
    for text in pieces:
        choice = {"index": 0, "text": text} if api is COMPLETIONS else {"delta": {"content": text}}
        events.append(event({"choices": [choice]}))
    return b"".join([*events, event({"choices": [], "usage": usage}), b"data: [DONE]\n\n"])


def whole(api: ApiFormat, pieces: list[str], usage: dict[str, object]) -> bytes:
    text = "".join(pieces)
    answer: dict[str, object]
    if api is MESSAGES:
        answer = {"content": [{"type": "text", "text": text}]}
    elif api is RESPONSES:
        answer = {"output": [{"content": [{"type": "output_text", "text": text}]}]}
    elif api is CHAT:
        answer = {"choices": [{"message": {"content": text}}]}
    else:
        answer = {"choices": [{"text": text}]}
    return json.dumps(answer | {"usage": usage}).encode()


def check_of(api: ApiFormat, prompt: str) -> UsageCheck:
    body = {"model": "m", "prompt": prompt, "messages": [{"role": "user", "content": prompt}]}
    asked = asked_tokens(api, body, orjson.dumps(body), 131_072)
    return UsageCheck(asked, lambda: 10)


def read(api: ApiFormat, data: bytes, check: UsageCheck):
    events = api.event_stream(include_usage=True, continuous_usage=False)
    events.check_usage_by(lambda *counts: checked_counts(check, "far", *counts))
    passed = events.feed(data) + events.last_events()
    usage = events.usage()
    return passed, {} if usage is None else usage


@pytest.mark.parametrize("api", FORMATS, ids=lambda api: api.path)
@given(prompt=st.text(max_size=30), pieces=PIECES)
def test_a_token_for_each_byte_and_an_end_is_an_honest_count(api, prompt, pieces):
    """The most that a tokenizer with byte fallback can count: an emoji is four tokens."""
    completion = sum(len(text.encode()) for text in pieces) + 1
    usage = told(api, len(prompt.encode()) + 300, completion)
    check = check_of(api, prompt)
    data = stream(api, pieces, usage)
    passed, found = read(api, data, check)
    assert (passed, check.exceeded_by) == (data, set())
    assert read_usage(found) == read_usage(usage)
    size_bytes = whole_text_bytes(whole(api, pieces, usage))
    assert checked_counts(check, "far", usage, 0, size_bytes) is usage


@pytest.mark.parametrize("api", FORMATS, ids=lambda api: api.path)
@given(
    pieces=PIECES,
    lie=st.sampled_from(LIES),
)
def test_an_impossible_count_is_replaced_in_what_the_client_is_shown(api, pieces, lie):
    check = check_of(api, "hello")
    passed, found = read(api, stream(api, pieces, told(api, *lie)), check)
    assert check.exceeded_by == {"far"}
    billed = read_usage(found)
    assert billed.prompt_tokens <= 10
    assert billed.completion_tokens <= sum(len(text.encode()) for text in pieces) + len(pieces) + 1
    for number in (b"100000000", b"9999"):
        assert number not in passed
    size_bytes = whole_text_bytes(whole(api, pieces, told(api, *lie)))
    shown = checked_counts(check, "far", told(api, *lie), 0, size_bytes)
    assert read_usage(shown).prompt_tokens <= 10
    assert shown.keys() == told(api, *lie).keys()
