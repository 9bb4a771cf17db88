"""An engine's answer on its way to the agent that asked: what of it is counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from agent.formats.chat import CHAT
from agent.relay.pass_through import PassThrough

CHUNK = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","model":"m","choices":'
    b'[{"index":0,"delta":{"content":"t"},"finish_reason":null}]}\n\n'
)


def exchange(*, streams: bool) -> PassThrough:
    client: Any = SimpleNamespace(write=lambda data: None, flow_from=lambda source: None)
    events = CHAT.event_stream(include_usage=True, continuous_usage=True)
    return PassThrough(
        client,
        events,
        lambda status, headers: b"",
        lambda: 0.0,
        lambda tokens, now_mono_ms: None,
        CHAT.token_mark,
        streams=streams,
    )


async def test_a_stream_that_its_client_leaves_counts_as_what_was_generated() -> None:
    """Else an account that always leaves before the end has its work for the price of a guess."""
    answer = exchange(streams=True)
    answer.on_head(200, [(b"content-type", b"text/event-stream")])
    for _ in range(50):
        answer.on_body(CHUNK)
        answer.on_read_end()
    answer.abort()
    assert answer.generated() == 50


async def test_of_a_whole_answer_that_was_cut_it_is_not_known_what_was_generated() -> None:
    answer = exchange(streams=False)
    answer.on_head(200, [(b"content-type", b"application/json")])
    answer.abort()
    assert answer.generated() is None


async def test_a_whole_answer_counts_as_its_engine_says() -> None:
    answer = exchange(streams=False)
    answer.on_head(200, [(b"content-type", b"application/json")])
    answer.on_body(b'{"usage":{"prompt_tokens":7,"completion_tokens":4000}}')
    answer.on_complete()
    answer.on_read_end()
    assert answer.generated() == 4_000
