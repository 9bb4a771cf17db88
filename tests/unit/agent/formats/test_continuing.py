"""A stream in two halves that reads as one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.formats.continuing import MAX_TEXT_BYTES, ContinuableStream
from agent.formats.sse import EventStream, MalformedStream

DONE = b"data: [DONE]\n\n"


def event(engine: str, *, usage: tuple[int, int] | None = None, **choice: Any) -> bytes:
    body: dict[str, Any] = {
        "id": f"chatcmpl-{engine}",
        "object": "chat.completion.chunk",
        "created": len(engine),
        "model": engine,
        "choices": [{"index": 0, "finish_reason": None} | choice] if choice else [],
    }
    if usage is not None:
        prompt, completion = usage
        body["usage"] = {
            "prompt_tokens": prompt,
            "total_tokens": prompt + completion,
            "completion_tokens": completion,
        }
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def role(engine: str, **more: Any) -> bytes:
    return event(engine, delta={"role": "assistant", "content": ""}, **more)


def says(engine: str, text: str, **more: Any) -> bytes:
    return event(engine, delta={"content": text}, **more)


def stream(*, include: bool = False, continuous: bool = False) -> ContinuableStream:
    return ContinuableStream(include_usage=include, continuous_usage=continuous)


def read(passed: bytes) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in passed.decode().split("\n\n") if line]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def said(passed: bytes) -> str:
    return "".join(
        choice.get("delta", choice).get("content") or choice.get("text") or ""
        for message in read(passed)
        for choice in message["choices"]
    )


def test_the_second_half_looks_like_the_first() -> None:
    events = stream()
    passed = events.feed(role("one") + says("one", "a") + says("one", " b"))
    assert events.text == "a b"
    assert events.can_go_on
    events.go_on()
    passed += events.feed(role("second") + says("second", " c"))
    passed += events.feed(says("second", "", finish_reason="stop") + DONE) + events.last_events()
    assert said(passed) == "a b c"
    assert {(one["id"], one["created"], one["model"]) for one in read(passed)} == {
        ("chatcmpl-one", 3, "one")
    }
    assert sum("role" in one["choices"][0]["delta"] for one in read(passed)) == 1
    assert passed.endswith(DONE)
    assert events.done
    assert events.seams == 1


def test_usage_is_one_requests_its_prompt_once_and_all_tokens_said() -> None:
    events = stream(include=True)
    events.feed(says("one", "a", usage=(7, 1)) + says("one", " b", usage=(7, 2)))
    events.go_on()
    passed = events.feed(says("two", " c", usage=(11, 1)) + event("two", usage=(11, 1)) + DONE)
    assert read(passed)[-1]["usage"] == {
        "prompt_tokens": 7,
        "total_tokens": 10,
        "completion_tokens": 3,
    }
    found = events.usage()
    assert found is not None
    assert (found["prompt_tokens"], found["completion_tokens"]) == (7, 3)


def test_usage_on_every_chunk_grows_across_the_seam() -> None:
    events = stream(include=True, continuous=True)
    passed = events.feed(says("one", "a", usage=(7, 1)))
    events.go_on()
    passed += events.feed(role("two", usage=(9, 0)) + says("two", "b", usage=(9, 1)))
    assert [one["usage"]["completion_tokens"] for one in read(passed)] == [1, 2]


def test_an_engine_that_never_counted_is_counted_by_its_events() -> None:
    events = stream(include=True)
    events.feed(says("one", "a") + says("one", " b"))
    assert events.completion_tokens == 2
    events.go_on()
    passed = events.feed(says("two", " c") + event("two", usage=(9, 1)))
    assert read(passed)[-1]["usage"] == {
        "prompt_tokens": 7,
        "total_tokens": 10,
        "completion_tokens": 3,
    }


def test_a_stream_may_break_more_than_once() -> None:
    events = stream(include=True)
    passed = events.feed(says("one", "a", usage=(7, 1)))
    for engine in ("two", "three"):
        events.go_on()
        passed += events.feed(role(engine, usage=(9, 0)) + says(engine, engine, usage=(9, 1)))
    assert said(passed) == "atwothree"
    assert events.completion_tokens == 3
    assert events.seams == 2


def test_half_an_event_of_the_lost_engine_is_dropped_and_its_tokens_are_not_counted() -> None:
    events = stream()
    events.feed(says("one", "a", usage=(7, 1)) + says("one", "lost", usage=(7, 2))[:30])
    events.go_on()
    assert said(events.feed(says("two", "b"))) == "b"
    assert events.text == "ab"


def test_what_a_malformed_read_held_was_never_sent_and_is_said_again() -> None:
    events = stream()
    events.feed(says("one", "a", usage=(7, 1)))
    with pytest.raises(MalformedStream):
        events.feed(says("one", "b", usage=(7, 2)) + b"data: {cut\n\n")
    assert events.text == "a"
    events.go_on()
    assert events.completion_tokens == 1


def test_an_engines_own_error_is_forgotten_with_it() -> None:
    events = stream()
    events.feed(says("one", "a") + b'data: {"error":{"message":"dead"}}\n\n')
    assert events.error_event
    events.go_on()
    assert said(events.feed(says("two", "b") + DONE)) == "b"
    assert events.done


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        ([" \n", "next"], "next"),
        ([" ", "\nnext"], "next"),
        (["next"], "next"),
        ([" \n next"], " next"),
    ],
)
def test_white_space_at_the_seam_is_shown_once(deltas: list[str], expected: str) -> None:
    events = stream()
    events.feed(says("one", "word \n"))
    events.go_on()
    assert said(events.feed(b"".join(says("two", delta) for delta in deltas))) == expected


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning": "hm"},
        {"reasoning_content": "hm"},
        {"tool_calls": [{"index": 0}]},
        {"refusal": "no"},
    ],
)
def test_what_is_no_plain_text_cannot_go_on(delta: dict[str, Any]) -> None:
    events = stream()
    events.feed(says("one", "a") + event("one", delta=delta))
    assert not events.can_go_on


def test_nothing_said_or_all_said_cannot_go_on() -> None:
    events = stream()
    assert not events.can_go_on
    events.feed(role("one"))
    assert not events.can_go_on
    events.feed(says("one", "a", finish_reason="stop"))
    assert not events.can_go_on


def test_a_stream_that_breaks_behind_its_last_word_is_ended_for_its_engine() -> None:
    events = stream(include=True)
    events.feed(role("one", usage=(7, 0)) + says("one", "a", usage=(7, 1), finish_reason="stop"))
    assert events.lacks_only_its_end
    ending = events.last_events()
    assert read(ending)[0]["usage"]["completion_tokens"] == 1
    assert read(ending)[0]["id"] == "chatcmpl-one"
    assert ending.endswith(DONE)
    assert events.done
    assert not events.lacks_only_its_end


def test_the_end_of_a_stream_in_two_halves_tells_the_usage_of_both() -> None:
    events = stream(include=True)
    events.feed(says("one", "a", usage=(7, 1)))
    events.go_on()
    events.feed(says("two", "b", usage=(8, 1), finish_reason="stop"))
    assert read(events.last_events())[0]["usage"]["completion_tokens"] == 2


def test_an_end_without_the_usage_that_was_asked_for_is_none() -> None:
    events = stream(include=True)
    events.feed(says("one", "a", finish_reason="stop"))
    assert not events.can_end
    assert events.last_events() == b""
    events = stream()
    passed = events.feed(says("one", "a", finish_reason="stop"))
    assert events.can_end
    passed += events.last_events()
    assert passed == says("one", "a", finish_reason="stop") + DONE


def test_logprobs_or_a_second_choice_cannot_go_on() -> None:
    for other in ({"logprobs": {"content": []}}, {"index": 1}):
        events = stream()
        events.feed(says("one", "a") + says("one", "b", **other))
        assert not events.can_go_on


def test_text_remembered_is_bounded() -> None:
    events = stream()
    events.feed(says("one", "x" * MAX_TEXT_BYTES))
    assert events.can_go_on
    events.feed(says("one", "x"))
    assert not events.can_go_on
    assert events.text == ""


def test_completions_go_on_too() -> None:
    events = stream()
    passed = events.feed(b'data: {"id":"1","choices":[{"index":0,"text":"a "}]}\n\n')
    events.go_on()
    passed += events.feed(b'data: {"id":"2","choices":[{"index":0,"text":" b"}]}\n\n')
    assert said(passed) == "a  b"
    assert {one["id"] for one in read(passed)} == {"1"}


@given(cuts=st.lists(st.integers(1, 400), max_size=8))
def test_without_a_break_it_is_an_event_stream_like_any_other(cuts: list[int]) -> None:
    whole = role("one", usage=(7, 0)) + says("one", "a", usage=(7, 1)) + DONE
    plain, ours = EventStream(include_usage=False, continuous_usage=False), stream()
    at = 0
    for size in [*cuts, len(whole)]:
        piece = whole[at : at + size]
        assert ours.feed(piece) == plain.feed(piece)
        at += size
    assert ours.usage() == plain.usage()
    assert ours.done == plain.done


def test_a_finish_reason_that_waits_for_its_fingerprint_is_not_lost_with_the_engine() -> None:
    events = stream()
    passed = events.feed(says("one", "a", usage=(7, 1)))
    passed += events.feed(says("one", "b", usage=(7, 2), finish_reason="stop"))
    assert said(passed) == "a"
    assert not events.can_go_on
    assert events.lacks_only_its_end
    assert events.can_end
    passed += events.last_events()
    assert said(passed) == "ab"
    assert passed.endswith(DONE)
    assert events.completion_tokens == 2


def test_both_halves_have_the_name_that_the_client_asked_for() -> None:
    names = (b'"o/n@1"', b'"chat"')
    events = ContinuableStream(include_usage=True, continuous_usage=False, names=names)
    first, second = (
        says(one, "a").replace(b'"%s"' % one.encode(), b'"o/n@1"') for one in ("one", "two")
    )
    assert b'"o/n@1"' in first
    passed = events.feed(first)
    events.go_on()
    passed += events.feed(second + event("two", usage=(9, 1))) + events.last_events()
    assert {one["model"] for one in read(passed)} == {"chat"}
