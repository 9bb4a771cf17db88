"""The client sees the same events however a stream is cut into reads; no bytes crash it."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from agent.formats.sse import EventStream, MalformedStream

NAMES = (b'"o/n@1"', b'"chat"')
TEXTS = st.text(max_size=20)
EVENTS = st.lists(st.tuples(TEXTS, st.booleans()), max_size=12)


def wire(events: list[tuple[str, bool]]) -> bytes:
    """A stream as vLLM writes it: chunks, some with usage, the usage chunk, the end."""
    chunks: list[bytes] = []
    for number, (text, with_usage) in enumerate(events):
        finish = "stop" if number == len(events) - 1 else None
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
        chunk: dict[str, object] = {"model": "o/n@1", "choices": [choice]}
        if with_usage:
            chunk["usage"] = {"prompt_tokens": 3, "completion_tokens": number}
        chunks.append(json.dumps(chunk, separators=(",", ":")).encode())
    last: dict[str, object] = {"model": "o/n@1", "choices": [], "system_fingerprint": "vllm-1"}
    last |= {"usage": {"prompt_tokens": 3, "completion_tokens": len(events)}}
    chunks.append(json.dumps(last, separators=(",", ":")).encode())
    chunks.append(b"[DONE]")
    return b"".join(b"data: " + chunk + b"\n\n" for chunk in chunks)


def read(data: bytes, cuts: list[int], *, include: bool) -> tuple[bytes, EventStream]:
    stream = EventStream(include_usage=include, continuous_usage=False, names=NAMES)
    passed, start = [], 0
    for cut in [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]:
        passed.append(stream.feed(data[start:cut]))
        start = cut
    passed.append(stream.last_events())
    return b"".join(passed), stream


@given(EVENTS, st.lists(st.integers(min_value=0, max_value=10_000), max_size=8), st.booleans())
def test_cuts_do_not_matter(events: list[tuple[str, bool]], cuts: list[int], include: bool) -> None:
    data = wire(events)
    whole, seen_whole = read(data, [], include=include)
    pieces, seen_pieces = read(data, cuts, include=include)
    assert pieces == whole
    assert (
        seen_pieces.usage()
        == seen_whole.usage()
        == {
            "prompt_tokens": 3,
            "completion_tokens": len(events),
        }
    )
    assert seen_pieces.token_seen == any(text for text, _ in events)
    assert seen_pieces.done


@given(EVENTS, st.booleans())
def test_texts_pass_in_order_and_usage_only_when_asked_for(
    events: list[tuple[str, bool]], include: bool
) -> None:
    passed, _ = read(wire(events), [], include=include)
    payloads = [one.removeprefix(b"data: ") for one in passed.split(b"\n\n")[:-1]]
    assert payloads.pop() == b"[DONE]"
    chunks = [json.loads(one) for one in payloads]
    texts = [one["choices"][0]["delta"]["content"] for one in chunks if one["choices"]]
    assert texts == [text for text, _ in events]
    assert ["usage" in one for one in chunks if not one["choices"]] == [True] * include
    assert not any("usage" in one for one in chunks if one["choices"])
    assert all(one["model"] == "chat" for one in chunks)
    if chunks:
        assert chunks[-1]["system_fingerprint"] == "vllm-1"


@given(st.lists(st.binary(max_size=200), max_size=6))
def test_hostile_bytes_are_passed_on_or_reported_malformed(reads: list[bytes]) -> None:
    stream = EventStream(include_usage=False, continuous_usage=False)
    with contextlib.suppress(MalformedStream):
        for data in reads:
            stream.feed(data)
    stream.usage()
