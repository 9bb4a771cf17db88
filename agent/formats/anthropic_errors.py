"""EdgeForge's errors, and an engine's, in the words of Anthropic's API.

Source: Anthropic's API reference, "Errors".
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson

from agent.formats.errors import (
    ErrorWords,
    Header,
    Overflow,
    engine_error,
    engine_message,
    full_message,
    read_overflow,
)

if TYPE_CHECKING:
    from protos.domain.errors import EdgeForgeError
    from protos.domain.quota import RateState

#: ``error.type`` by HTTP status.
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "request_too_large",
    415: "invalid_request_error",
    421: "invalid_request_error",
    429: "rate_limit_error",
    431: "request_too_large",
    503: "overloaded_error",
    504: "timeout_error",
}

#: How Anthropic's errors of too many tokens begin.
_BEGINNINGS = ("prompt is too long: ", "max_tokens: ")


def anthropic_body(status: int, message: str) -> bytes:
    """Return the JSON body of an error response or event."""
    kind = _TYPES.get(status, "api_error")
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}})


def response_body(error: EdgeForgeError, status: int) -> bytes:
    """Return the JSON body of an error response."""
    return anthropic_body(status, _message(error))


def event_data(error: EdgeForgeError, _events_before: int) -> bytes:
    """Return the JSON of an error event."""
    return anthropic_body(error.http_status, _message(error))


def _refusal(status: int, body: bytes) -> bytes:
    overflow = read_overflow(engine_message(body) or "") if status < 500 else None
    if overflow is not None:
        return anthropic_body(status, _overflow_message(overflow))
    return anthropic_body(status, full_message(engine_error(status, body)))


def _message(error: EdgeForgeError) -> str:
    message = full_message(error)
    overflow = read_overflow(message)
    return message if overflow is None else _overflow_message(overflow)


def _overflow_message(overflow: Overflow) -> str:
    """Begin as Anthropic's API does, for its clients search it; other clients search the rest."""
    if overflow.message.startswith(_BEGINNINGS):  # a peer's answer
        return overflow.message
    requested, limit = overflow.requested_tokens, overflow.limit_tokens
    if overflow.is_output:
        begin = f"max_tokens: {requested} > {limit}, which is the maximum"
    else:
        begin = f"prompt is too long: {requested} tokens > {limit} maximum"
    return f"{begin}. {overflow.message}"


def rate_headers(states: Iterable[RateState]) -> list[Header]:
    """Return Anthropic's headers. Source: Anthropic's API reference, "Rate limits"."""
    headers: list[Header] = []
    for state in states:
        begin = b"anthropic-ratelimit-" + state.kind.encode()
        at = datetime.fromtimestamp(state.reset_unix_ms // 1_000, UTC)
        headers += (
            (begin + b"-limit", b"%d" % state.limit),
            (begin + b"-remaining", b"%d" % state.remaining),
            (begin + b"-reset", at.strftime("%Y-%m-%dT%H:%M:%SZ").encode()),
        )
    return headers


ANTHROPIC_WORDS = ErrorWords(
    body=response_body,
    event_data=event_data,
    refusal=_refusal,
    rate_headers=rate_headers,
    no_quota_status=402,
)
