"""Errors as an Anthropic client reads them."""

from __future__ import annotations

import json

import pytest

from agent.formats.chat import CHAT
from agent.formats.errors import internal_error
from agent.formats.messages import MESSAGES
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
    said = json.loads(MESSAGES.engine_refusal(400, body))
    assert said == {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    own = json.loads(CHAT.engine_refusal(400, body))
    assert own["error"]["message"] == message
