"""Event streams as bytes: what passes, what is cut out, what is malformed."""

from __future__ import annotations

import json

import pytest

from agent.formats.sse import MAX_CHOICES, MAX_EVENT_BYTES, EventStream, MalformedStream, find_usage

ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
TOKEN = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
USAGE = b'"usage":{"prompt_tokens":7,"completion_tokens":1,"prompt_tokens_details":{"cached":2}}'
TOKEN_WITH_USAGE = b'data: {"choices":[{"delta":{"content":"hi"}}],' + USAGE + b"}\n\n"
LAST_USAGE = b'data: {"choices":[],' + USAGE + b"}\n\n"
DONE = b"data: [DONE]\n\n"


def stream(*, include: bool = False, continuous: bool = False) -> EventStream:
    return EventStream(include_usage=include, continuous_usage=continuous)


def test_what_is_whole_passes_untouched() -> None:
    events = stream()
    assert events.feed(ROLE + TOKEN + DONE) == ROLE + TOKEN
    assert events.last_events() == DONE
    assert events.done
    assert events.events == 1, "a role is no token"


def test_half_an_event_waits_for_its_other_half() -> None:
    events = stream()
    assert events.feed(TOKEN[:10]) == b""
    assert events.feed(TOKEN[10:]) == TOKEN


def test_a_role_is_no_token_and_content_is() -> None:
    events = stream()
    events.feed(ROLE)
    assert not events.token_seen
    events.feed(TOKEN)
    assert events.token_seen


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "a"},
        {"reasoning": "a"},
        {"reasoning_content": "a"},
        {"tool_calls": [{"index": 0, "function": {"name": "f"}}]},
        {"refusal": "no"},
    ],
)
def test_content_reasoning_and_tool_deltas_are_first_tokens(delta: dict[str, object]) -> None:
    events = stream()
    events.feed(b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n")
    assert events.token_seen


def test_text_of_a_completion_is_a_token() -> None:
    events = stream()
    events.feed(b'data: {"choices":[{"text":"hi"}]}\n\n')
    assert events.token_seen


def test_usage_that_was_not_asked_for_is_cut_out_and_read() -> None:
    events = stream()
    passed = events.feed(TOKEN_WITH_USAGE + LAST_USAGE + DONE) + events.last_events()
    assert b"usage" not in passed
    first = json.loads(passed.split(b"\n\n")[0].removeprefix(b"data: "))
    assert first == {"choices": [{"delta": {"content": "hi"}}]}
    assert passed.endswith(DONE)
    usage = events.usage()
    assert usage is not None
    assert usage["prompt_tokens"] == 7


def test_the_usage_chunk_passes_when_it_was_asked_for() -> None:
    assert stream(include=True).feed(LAST_USAGE) == LAST_USAGE


def test_usage_on_every_chunk_passes_only_when_that_was_asked_for() -> None:
    assert stream(include=True, continuous=True).feed(TOKEN_WITH_USAGE) == TOKEN_WITH_USAGE
    assert b"usage" not in stream(include=True).feed(TOKEN_WITH_USAGE)


def test_usage_that_comes_first_in_an_object_leaves_valid_json() -> None:
    passed = stream().feed(b"data: {" + USAGE + b',"choices":[{"delta":{"content":"x"}}]}\n\n')
    assert "usage" not in json.loads(passed.removeprefix(b"data: "))


def test_an_engines_error_is_kept_back_and_nothing_after_it_is_shown() -> None:
    events = stream()
    assert events.feed(b'data: {"error":{"message":"dead"}}\n\n' + DONE) == b""
    assert events.error_event == b'{"error":{"message":"dead"}}'
    assert not events.done


def test_lines_that_end_as_on_windows_are_read() -> None:
    events = stream()
    assert events.feed(TOKEN.replace(b"\n", b"\r\n")) == TOKEN


def test_comments_pass() -> None:
    assert stream().feed(b": ping\n\n") == b": ping\n\n"


@pytest.mark.parametrize(
    "junk",
    [
        b"hello\n\n",
        b"data: {not json}\n\n",
        b"<html>\n\n",
        b"data: 7\n\n",
        TOKEN + b"data: cut in two\n\n",
        TOKEN + b'data: {"choices":[{}],"usage":{"a":1\n\n',
    ],
)
def test_what_is_no_event_stream_is_malformed(junk: bytes) -> None:
    events = stream()
    try:
        passed = events.feed(junk)
    except MalformedStream:
        return
    assert not passed.endswith(b"\n\n") or not events.done


def test_an_event_without_an_end_is_bounded() -> None:
    events = stream()
    with pytest.raises(MalformedStream):
        events.feed(b"data: " + b"x" * MAX_EVENT_BYTES)


def test_the_usage_of_a_whole_body_is_found_without_parsing_the_rest() -> None:
    body = b'{"choices":[{"message":{"content":"\\"usage\\":{ haha"}}],' + USAGE + b"}"
    found = find_usage(body)
    assert found is not None
    assert found["prompt_tokens"] == 7
    assert find_usage(b"{}") is None
    assert find_usage(b'{"usage":{"a":') is None


def test_further_fields_go_beside_the_usage_that_was_asked_for() -> None:
    seen: list[bytes] = []

    def beside(usage: bytes, visible: bool) -> bytes:
        assert visible
        seen.append(usage)
        return b',"cost_usd":0.000000012'

    asked = EventStream(include_usage=True, continuous_usage=False, beside_usage=beside)
    passed = asked.feed(TOKEN_WITH_USAGE + LAST_USAGE)
    told = json.loads(passed.split(b"\n\n")[1].removeprefix(b"data: "))
    assert told["cost_usd"] == 1.2e-08
    assert told["usage"]["prompt_tokens"] == 7
    assert [json.loads(usage)["completion_tokens"] for usage in seen] == [1], "once a stream"
    silent = EventStream(include_usage=False, continuous_usage=False, beside_usage=beside)
    assert silent.feed(LAST_USAGE) == b""
    assert len(seen) == 1


def chunk(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


EMPTY = chunk(choices=[{"index": 0, "delta": {"content": ""}}])


@pytest.mark.parametrize(
    "proof",
    [
        TOKEN,
        EMPTY,
        chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]),
        chunk(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 1}),
    ],
)
def test_progress_is_a_token_a_second_event_of_a_choice_or_a_count(proof: bytes) -> None:
    events = stream()
    events.feed(ROLE)
    assert not events.progress_seen, "a role is sent before anything is generated"
    events.feed(proof)
    assert events.progress_seen
    assert events.token_seen is (proof == TOKEN)


def test_a_first_event_with_a_count_is_progress_and_one_that_counts_none_is_not() -> None:
    for tokens, proves in ((0, False), (1, True)):
        events = stream()
        usage = {"prompt_tokens": 7, "completion_tokens": tokens}
        events.feed(chunk(choices=[{"index": 0, "delta": {"role": "assistant"}}], usage=usage))
        assert events.progress_seen is proves
        assert not events.token_seen


def test_the_role_chunks_of_several_choices_are_no_progress() -> None:
    events = stream()
    for index in range(4):
        events.feed(chunk(choices=[{"index": index, "delta": {"role": "assistant"}}]))
        assert not events.progress_seen
    events.feed(chunk(choices=[{"index": 2, "delta": {"content": ""}}]))
    assert events.progress_seen
    assert not events.token_seen


def test_more_first_events_than_a_request_can_have_choices_are_progress() -> None:
    events = stream()
    for index in range(MAX_CHOICES + 1):
        assert not events.progress_seen
        events.feed(chunk(choices=[{"index": index, "delta": {"role": "assistant"}}]))
    assert events.progress_seen


@pytest.mark.parametrize("data", [b": wait\n\n", b'data: {"error":{"message":"m"}}\n\n'])
def test_comments_and_errors_are_no_progress(data: bytes) -> None:
    events = stream()
    events.feed(ROLE + data)
    assert not events.progress_seen


LAST = chunk(model="o/n@1", choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
MARKED = LAST_USAGE[:-3] + b',"system_fingerprint":"vllm-1"}\n\n'


def test_a_fingerprint_of_the_usage_chunk_is_kept_when_usage_was_not_asked_for() -> None:
    events = stream()
    assert events.feed(TOKEN + LAST) == TOKEN, "the last chunk waits for the next event"
    passed = events.feed(MARKED)
    assert json.loads(passed.removeprefix(b"data: "))["system_fingerprint"] == "vllm-1"
    assert passed == LAST[:-3] + b',"system_fingerprint":"vllm-1"}\n\n'
    assert events.feed(DONE) + events.last_events() == DONE


@pytest.mark.parametrize("behind", [LAST_USAGE + DONE, DONE])
def test_without_a_fingerprint_the_last_chunk_passes_as_it_is(behind: bytes) -> None:
    events = stream()
    assert events.feed(TOKEN + LAST + behind) + events.last_events() == TOKEN + LAST + DONE


def test_a_fingerprint_that_an_engine_puts_into_its_chunks_is_not_doubled() -> None:
    own = LAST[:-3] + b',"system_fingerprint":"vllm-1"}\n\n'
    events = stream()
    assert events.feed(own + MARKED) == own


def test_choices_that_finish_one_after_another_pass_in_order() -> None:
    second = LAST.replace(b'"index":0', b'"index":1')
    other = TOKEN.replace(b"hi", b"ho")
    events = stream()
    passed = events.feed(TOKEN + LAST + other + second + MARKED + DONE) + events.last_events()
    assert (
        passed == TOKEN + LAST + other + second[:-3] + b',"system_fingerprint":"vllm-1"}\n\n' + DONE
    )


@pytest.mark.parametrize("behind", [b'data: {"error":{"message":"dead"}}\n\n', b""])
def test_a_last_chunk_is_not_lost_with_an_engine_that_says_no_more(behind: bytes) -> None:
    events = stream()
    assert events.feed(TOKEN + LAST + behind) + events.last_events() == TOKEN + LAST


def test_who_asked_for_usage_waits_for_nothing() -> None:
    assert stream(include=True).feed(TOKEN + LAST) == TOKEN + LAST


def test_events_have_the_name_that_the_client_asked_for() -> None:
    names = (b'"o/n@1"', b'"chat"')
    events = EventStream(include_usage=True, continuous_usage=False, names=names)
    text = chunk(model="o/n@1", choices=[{"delta": {"content": '"model":"o/n@1"'}}])
    passed = events.feed(text + LAST + MARKED)
    found = [json.loads(one.removeprefix(b"data: ")) for one in passed.split(b"\n\n")[:-1]]
    assert [one.get("model") for one in found] == ["chat", "chat", None]
    assert found[0]["choices"][0]["delta"]["content"] == '"model":"o/n@1"'
    for at in range(len(text)):
        cut = EventStream(include_usage=True, continuous_usage=False, names=names)
        assert cut.feed(text[:at]) + cut.feed(text[at:]) == text.replace(*names, 1)


def test_a_usage_object_without_an_end_is_not_looked_for_in_megabytes() -> None:
    hostile = b'{"usage":{' + b"{}" * 2_000_000
    assert find_usage(hostile) is None
    long_answer = b'{"text":"' + b"a" * 8_000_000 + b'","usage":{"prompt_tokens":3}}'
    assert find_usage(long_answer) == {"prompt_tokens": 3}
