"""The same counts of an engine make the same record in every format, streamed or whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.request.usage import is_empty
from agent.formats import ApiFormat
from agent.formats.chat import CHAT
from agent.formats.completions import COMPLETIONS
from agent.formats.continuing import ContinuableStream
from agent.formats.embeddings import EMBEDDINGS
from agent.formats.messages import MESSAGES
from agent.formats.responses import RESPONSES
from agent.formats.sse import EventStream
from agent.formats.usage import read_usage
from protos.domain.pricing import MAX_TOKENS, Usage

FORMATS = [CHAT, COMPLETIONS, RESPONSES, MESSAGES]
MOST = MAX_TOKENS // 4


@st.composite
def counts(draw: st.DrawFn) -> Usage:
    """What an engine has counted; an explicit 0 is one of the values."""
    prompt = draw(st.one_of(st.just(0), st.integers(0, 40), st.integers(0, MOST)))
    cached = draw(st.one_of(st.just(0), st.just(prompt), st.integers(0, prompt)))
    return Usage(prompt, cached, draw(st.one_of(st.just(0), st.integers(0, 40))))


def engines_words(api: ApiFormat, usage: Usage, written: int) -> dict[str, Any]:
    """The usage as each format's documentation defines it."""
    prompt, cached, completion = usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens
    if api is MESSAGES:  # the three parts are disjoint
        written = min(written, prompt - cached)
        return {
            "input_tokens": prompt - cached - written,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": written,
            "output_tokens": completion,
        }
    if api is RESPONSES:
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + completion,
        }
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def clients_sum(api: ApiFormat, usage: dict[str, Any]) -> tuple[int, int, int]:
    """What a client adds up who reads its own format's documentation: all, cached, generated."""
    if api is MESSAGES:
        cached = usage["cache_read_input_tokens"]
        whole = usage["input_tokens"] + cached + usage["cache_creation_input_tokens"]
        return whole, cached, usage["output_tokens"]
    if api is RESPONSES:
        cached = usage["input_tokens_details"]["cached_tokens"]
        return usage["input_tokens"], cached, usage["output_tokens"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return usage["prompt_tokens"], cached, usage["completion_tokens"]


def packed(body: dict[str, Any], name: str = "") -> bytes:
    data = b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"
    return f"event: {name}\n".encode() + data if name else data


def begun(api: ApiFormat, usage: dict[str, Any], tokens: int, continuous: bool) -> list[bytes]:
    """A stream's events up to its last token."""
    if api is MESSAGES:
        start = {"usage": usage | {"output_tokens": 0}}
        delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}}
        events = [packed({"type": "message_start", "message": start}, "message_start")]
        return events + [packed(delta, "content_block_delta")] * tokens
    if api is RESPONSES:
        events = [packed({"response": {"usage": None}}, "response.created")]
        return events + [packed({"delta": "a"}, "response.output_text.delta")] * tokens
    events = []
    for number in range(1, tokens + 1):
        choice: dict[str, Any] = {"index": 0, "text": "a"}
        if api is CHAT:
            choice = {"index": 0, "delta": {"content": "a"}}
        running = {"usage": usage | {"completion_tokens": number}} if continuous else {}
        events.append(packed({"choices": [choice]} | running))
    return events


def ended(api: ApiFormat, usage: dict[str, Any]) -> list[bytes]:
    """The events behind the last token."""
    if api is MESSAGES:
        last = {"delta": {}, "usage": {"output_tokens": usage["output_tokens"]}}
        return [packed(last, "message_delta"), packed({}, "message_stop")]
    if api is RESPONSES:
        return [packed({"response": {"usage": usage}}, "response.completed")]
    return [packed({"choices": [], "usage": usage}), b"data: [DONE]\n\n"]


def shown(api: ApiFormat, passed: bytes) -> dict[str, Any]:
    """The usage that a client has read of a stream, its parts merged as the SDKs do."""
    found: dict[str, Any] = {}
    for event in passed.split(b"\n\n"):
        data = event.rpartition(b"data: ")[2]
        if not data.startswith(b"{"):
            continue
        message = json.loads(data)
        for holder in (message, message.get("message") or {}, message.get("response") or {}):
            if isinstance(holder.get("usage"), dict):
                found |= holder["usage"]
    return found


def opened(api: ApiFormat, *, include: bool, continuous: bool) -> EventStream:
    return api.event_stream(include_usage=include, continuous_usage=continuous)


@pytest.mark.parametrize("api", FORMATS, ids=lambda api: api.path)
@given(counts(), st.integers(0, 50), st.booleans(), st.booleans(), st.booleans())
def test_the_same_counts_make_the_same_record_in_every_format_and_for_its_client(
    api: ApiFormat, usage: Usage, written: int, include: bool, asks_more: bool, continuous: bool
) -> None:
    said = engines_words(api, usage, written)
    whole = json.dumps({"choices": [], "content": [], "usage": said}, separators=(",", ":"))
    found = api.body_usage(whole.encode())
    assert found is not None
    assert read_usage(found) == usage
    assert clients_sum(api, json.loads(whole)["usage"]) == (
        usage.prompt_tokens,
        usage.cached_tokens,
        usage.completion_tokens,
    )
    stream = opened(api, include=include, continuous=include and asks_more)
    events = begun(api, said, usage.completion_tokens, continuous) + ended(api, said)
    passed = b"".join(map(stream.feed, events)) + stream.last_events()
    counted = stream.usage()
    assert counted is not None
    assert read_usage(counted) == usage
    if include or not api.has_stream_options:
        assert clients_sum(api, shown(api, passed)) == (
            usage.prompt_tokens,
            usage.cached_tokens,
            usage.completion_tokens,
        )
    else:
        assert b'"usage"' not in passed


@pytest.mark.parametrize("api", FORMATS, ids=lambda api: api.path)
@given(counts(), st.integers(1, 12))
def test_an_abort_is_billed_for_the_tokens_that_came_in_every_format(
    api: ApiFormat, usage: Usage, tokens: int
) -> None:
    said = engines_words(api, usage, 0)
    stream = opened(api, include=False, continuous=False)
    for event in begun(api, said, tokens, True):
        stream.feed(event)
    counted = read_usage(stream.usage() or {})
    assert counted.completion_tokens == tokens
    if api is RESPONSES:  # its engine says nothing of the prompt before the end
        assert counted.prompt_tokens == 0
    else:
        assert (counted.prompt_tokens, counted.cached_tokens) == (
            usage.prompt_tokens,
            usage.cached_tokens,
        )


@given(counts())
def test_embeddings_are_billed_by_their_prompt(usage: Usage) -> None:
    said = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens}
    found = EMBEDDINGS.body_usage(json.dumps({"usage": said}, separators=(",", ":")).encode())
    assert found is not None
    counted = read_usage(found)
    assert counted == Usage(usage.prompt_tokens, 0, 0)
    free = is_empty(counted, of_prompt=True, visible=True, free_ends=1)
    assert free is (usage.prompt_tokens == 0)


@given(counts(), st.integers(1, 8), st.integers(0, 8), st.booleans(), st.booleans())
def test_of_a_continued_stream_the_prompt_is_billed_once_and_both_parts_once(
    usage: Usage, before: int, behind: int, first_counts: bool, include: bool
) -> None:
    prompt = usage.prompt_tokens
    if not first_counts:  # then it is known from the second alone, which has the answer in it
        usage, prompt = Usage(max(1, prompt), 0, 0), max(1, prompt)
    stream = ContinuableStream(include_usage=include, continuous_usage=False)
    said = engines_words(CHAT, usage, 0)
    passed = b"".join(map(stream.feed, begun(CHAT, said, before, first_counts)))
    stream.go_on()
    second = engines_words(CHAT, Usage(prompt + before, 0, behind), 0)
    for event in begun(CHAT, second, behind, True) + ended(CHAT, second):
        passed += stream.feed(event)
    passed += stream.last_events()
    counted = read_usage(stream.usage() or {})
    assert counted == Usage(prompt, usage.cached_tokens if first_counts else 0, before + behind)
    if include:
        found = shown(CHAT, passed)
        assert (found["prompt_tokens"], found["completion_tokens"]) == (prompt, before + behind)
