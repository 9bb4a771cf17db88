"""Our errors as an OpenAI client reads them."""

from __future__ import annotations

import json

import pytest

from agent.gateway.errors import engine_refusal, error_event, internal_error, render_error
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
    event = error_event(NoReplica("first\n\ndata: [DONE]\r\n"))
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 3


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("m"), "invalid_request_error"),
        (Unauthenticated("m"), "authentication_error"),
        (NotFound("m"), "not_found_error"),
        (Overloaded("m"), "rate_limit_error"),
        (NoReplica("m"), "overloaded_error"),
        (internal_error(), "api_error"),
    ],
)
def test_messages_are_refused_in_anthropics_words(error: EdgeForgeError, kind: str) -> None:
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        status, _, body = render_error(error, path)
        said = json.loads(body)
        assert status == error.http_status
        assert said["type"] == "error"
        assert said["error"]["type"] == kind
        assert said["error"]["message"].startswith("internal" if kind == "api_error" else "m")


def test_an_error_mid_stream_is_in_the_formats_own_words() -> None:
    messages = json.loads(error_event(NoReplica("m"), "/v1/messages").partition(b"data: ")[2])
    assert messages == {"type": "error", "error": {"type": "overloaded_error", "message": "m"}}
    data = error_event(NoReplica("m"), "/v1/responses", 5).partition(b"data: ")[2]
    responses = json.loads(data)
    assert responses["type"] == "error"
    assert responses["sequence_number"] == 5
    assert responses["message"] == responses["error"]["message"] == "m"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"bad","type":"Bad Request","code":400}}', "bad"),
        (b'{"type":"error","error":{"type":"BadRequestError","message":"long"}}', "long"),
        (b'{"detail":"Not Found"}', "the engine refused the request"),
        (b"<html>", "the engine refused the request"),
        (b"[]", "the engine refused the request"),
    ],
)
def test_an_engines_own_refusal_of_messages_is_put_into_anthropics_words(
    body: bytes, message: str
) -> None:
    said = json.loads(engine_refusal("/v1/messages", 400, body))
    assert said == {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    assert engine_refusal("/v1/chat/completions", 400, body) == body
