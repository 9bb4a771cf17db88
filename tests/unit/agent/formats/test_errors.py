"""Our errors as an OpenAI client reads them."""

from __future__ import annotations

import json

import pytest

from agent.formats.chat import CHAT
from agent.formats.errors import internal_error
from agent.formats.registry import render_error
from protos.domain.errors import (
    EdgeForgeError,
    InvalidRequest,
    NoReplica,
    NotFound,
    Overloaded,
    Unauthenticated,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("m"), 400),
        (Unauthenticated("m"), 401),
        (NotFound("m"), 404),
        (Overloaded("m"), 429),
        (NoReplica("m"), 503),
        (internal_error(), 500),
    ],
)
def test_every_error_has_its_status_and_an_openai_body(error: EdgeForgeError, status: int) -> None:
    given, headers, body = render_error(error)
    assert given == status
    assert dict(headers)[b"content-type"] == b"application/json"
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(("asked_s", "said"), [(None, b"1"), (0.01, b"1"), (1.2, b"2")])
def test_who_shall_wait_is_told_whole_seconds_and_never_zero(
    asked_s: float | None, said: bytes
) -> None:
    _, headers, _ = render_error(Overloaded("m", retry_after_s=asked_s))
    assert dict(headers)[b"retry-after"] == said


def test_an_error_mid_stream_is_one_event_even_if_its_message_has_line_breaks() -> None:
    event = CHAT.error_event(NoReplica("first\n\ndata: [DONE]\r\n"))
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 3
