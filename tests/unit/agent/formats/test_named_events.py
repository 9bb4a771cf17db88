"""Streams whose events have names: first token, usage, end, and what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.formats import ApiFormat
from agent.formats.messages import MESSAGES
from agent.formats.named_events import MessagesEvents, ResponsesEvents
from agent.formats.responses import RESPONSES
from agent.formats.sse import EventStream, MalformedStream


def event(name: str, **fields: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name} | fields)}\n\n".encode()


MESSAGE = [
    event("message_start", message={"usage": {"input_tokens": 32, "output_tokens": 0}}),
    event("content_block_start", index=0),
    event("content_block_delta", delta={"type": "text_delta", "text": "a"}),
    event("content_block_delta", delta={"type": "text_delta", "text": "b"}),
    event("content_block_stop", index=0),
    event("message_delta", delta={}, usage={"input_tokens": 32, "output_tokens": 3}),
    event("message_stop"),
]
RESPONSE = [
    event("response.created", response={"usage": None, "metadata": {"usage": {"input_tokens": 9}}}),
    event("response.output_item.added", item={}),
    event("response.output_text.delta", delta="a"),
    event("response.output_text.done", text="a"),
    event(
        "response.completed",
        response={"tools": [{"usage": {}}], "usage": {"input_tokens": 5, "output_tokens": 1}},
    ),
]


@pytest.mark.parametrize(
    ("api", "events", "token_at", "usage"),
    [
        (MESSAGES, MESSAGE, 2, {"input_tokens": 32, "output_tokens": 3}),
        (RESPONSES, RESPONSE, 2, {"input_tokens": 5, "output_tokens": 1}),
    ],
)
def test_a_stream_passes_whole_its_first_token_is_a_delta_and_its_end_is_known(
    api: ApiFormat, events: list[bytes], token_at: int, usage: dict[str, int]
) -> None:
    stream = api.event_stream(include_usage=False, continuous_usage=False)
    for at, one in enumerate(events):
        assert stream.feed(one) + stream.last_events() == one
        assert stream.token_seen is (at >= token_at)
        assert stream.done is (at == len(events) - 1)
    assert stream.usage() == usage
    assert stream.passed == len(events)
    assert stream.events == sum(api.token_mark in one for one in events)


@pytest.mark.parametrize(
    "name",
    [
        "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta",
        "response.refusal.delta",
        "response.function_call_arguments.delta",
    ],
)
def test_reasoning_and_tool_calls_are_first_tokens_too(name: str) -> None:
    stream = ResponsesEvents()
    stream.feed(event(name, delta="x"))
    assert stream.token_seen


def test_split_at_every_byte_nothing_is_lost() -> None:
    whole = b"".join(MESSAGE)
    for at in range(len(whole)):
        stream = MessagesEvents()
        passed = stream.feed(whole[:at]) + stream.feed(whole[at:]) + stream.last_events()
        assert passed == whole
        assert stream.done


def test_a_cut_stream_counts_what_it_sent() -> None:
    messages = MessagesEvents()
    messages.feed(b"".join(MESSAGE[:4]))
    assert messages.usage() == {"input_tokens": 32, "output_tokens": 2}
    responses = ResponsesEvents()
    responses.feed(b"".join(RESPONSE[:3]))
    counted = responses.usage()
    assert counted is not None
    assert counted["output_tokens"] == 1
    assert ResponsesEvents().usage() is None


@pytest.mark.parametrize(
    ("stream", "name"),
    [
        (MessagesEvents(), "error"),
        (ResponsesEvents(), "error"),
        (ResponsesEvents(), "response.failed"),
    ],
)
def test_the_engines_own_error_is_kept_and_not_passed_on(stream: EventStream, name: str) -> None:
    assert stream.feed(event(name, error={"message": "m"}) + MESSAGE[2]) == b""
    assert stream.error_event is not None
    assert not stream.done


@pytest.mark.parametrize("stream", [MessagesEvents, ResponsesEvents])
@pytest.mark.parametrize(
    "data",
    [
        b"data: {}\n\n",
        b"data: [DONE]\n\n",
        b"event: content_block_delta\n\n",
        b"event: message_stop\ndata: {\n\n",
        b"event: message_stop\ndata: cut\n\n",
        b"event: content_block_delta\ndata: x}\n\nevent: response.output_text.delta\ndata: x}\n\n",
        b"event: message_start\ndata: x}\n\nevent: response.completed\ndata: x}\n\n",
        b"<html>\n\n",
    ],
)
def test_what_is_no_event_of_the_format_is_refused(
    stream: type[MessagesEvents | ResponsesEvents], data: bytes
) -> None:
    with pytest.raises(MalformedStream):
        stream().feed(data)


def test_comments_pass() -> None:
    assert MessagesEvents().feed(b": ping\n\n") == b": ping\n\n"


@pytest.mark.parametrize(("api", "events"), [(MESSAGES, MESSAGE), (RESPONSES, RESPONSE)])
def test_a_field_beside_the_usage_goes_into_the_event_that_tells_it(
    api: ApiFormat, events: list[bytes]
) -> None:
    told: list[bytes] = []

    def beside(usage: bytes, visible: bool) -> bytes:
        assert visible
        told.append(usage)
        return b',"cost_usd":0.1'

    stream = api.event_stream(include_usage=False, continuous_usage=False, beside_usage=beside)
    passed = stream.feed(b"".join(events)) + stream.last_events()
    assert passed.count(b',"cost_usd":0.1}\n\n') == 1
    assert json.loads(told[0])["output_tokens"] == (3 if api is MESSAGES else 1)


@pytest.mark.parametrize(
    ("api", "proof", "is_token"),
    [
        (MESSAGES, event("content_block_delta", delta={"type": "text_delta", "text": ""}), True),
        (MESSAGES, event("message_delta", delta={}, usage={"output_tokens": 1}), False),
        (RESPONSES, event("response.output_text.delta", delta=""), True),
        (RESPONSES, event("response.mcp_call_arguments.delta", delta=""), False),
        (RESPONSES, event("response.completed", response={"usage": {"output_tokens": 1}}), False),
    ],
)
def test_progress_is_a_delta_even_when_empty_or_a_count(
    api: ApiFormat, proof: bytes, is_token: bool
) -> None:
    stream = api.event_stream(include_usage=True, continuous_usage=True)
    stream.feed((MESSAGE if api is MESSAGES else RESPONSE)[0])
    assert not stream.progress_seen
    stream.feed(proof)
    assert stream.progress_seen
    assert stream.token_seen is is_token


@pytest.mark.parametrize(
    "data",
    [
        event("message_delta", delta={}, usage={"output_tokens": 0}),
        event("ping"),
        event("error", error={"message": "m"}),
    ],
)
def test_pings_errors_and_counts_of_nothing_are_no_progress(data: bytes) -> None:
    stream = MessagesEvents()
    stream.feed(MESSAGE[0] + data)
    assert not stream.progress_seen


OWN = {"model": "o/n@1", "metadata": {"model": "o/n@1"}, "output": [{"a": {"model": "o/n@1"}}]}


@pytest.mark.parametrize(
    ("api", "name", "inside"),
    [
        (MESSAGES, "message_start", "message"),
        (RESPONSES, "response.created", "response"),
        (RESPONSES, "response.in_progress", "response"),
        (RESPONSES, "response.completed", "response"),
        (RESPONSES, "response.incomplete", "response"),
    ],
)
@pytest.mark.parametrize("envelope", [OWN, {"id": "x", "model": "o/n@1"}])
def test_the_envelope_of_an_event_has_the_name_that_was_asked_for_and_only_it(
    api: ApiFormat, name: str, inside: str, envelope: dict[str, Any]
) -> None:
    names = (b'"o/n@1"', b'"chat"')
    stream = api.event_stream(include_usage=True, continuous_usage=True, names=names)
    sent = json.dumps({"type": name, inside: envelope}, separators=(",", ":")).encode()
    passed = stream.feed(b"event: %s\ndata: %s\n\n" % (name.encode(), sent))
    passed += stream.last_events()
    assert passed.startswith(b"event: %s\ndata: {" % name.encode())
    found = json.loads(passed.partition(b"\ndata: ")[2])
    assert found[inside] == envelope | {"model": "chat"}


def test_a_delta_that_has_the_engines_name_passes_as_it_is() -> None:
    stream = MESSAGES.event_stream(
        include_usage=True, continuous_usage=True, names=(b'"o/n@1"', b'"chat"')
    )
    one = event("content_block_delta", delta={"partial_json": '{"model":"o/n@1"}'})
    assert stream.feed(one) == one


def test_an_end_that_says_no_usage_has_not_said_zero() -> None:
    """The client has received the deltas; they are what can be counted."""
    stream = RESPONSES.event_stream(include_usage=False, continuous_usage=False)
    for _ in range(3):
        stream.feed(event("response.output_text.delta", delta="a"))
    stream.feed(event("response.completed", response={"usage": None}))
    assert (stream.usage() or {})["output_tokens"] == 3
    stream = MESSAGES.event_stream(include_usage=False, continuous_usage=False)
    start = {"usage": {"input_tokens": 9, "output_tokens": 1}}
    stream.feed(event("message_start", message=start))
    for _ in range(3):
        delta = {"type": "text_delta", "text": "a"}
        stream.feed(event("content_block_delta", delta=delta))
    stream.feed(event("message_delta", delta={}))
    assert (stream.usage() or {})["output_tokens"] == 3
    stream.feed(event("message_delta", delta={}, usage={"output_tokens": 0}))
    assert (stream.usage() or {})["output_tokens"] == 0, "an explicit 0 is 0"
