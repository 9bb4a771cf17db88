"""EdgeForge's errors, and an engine's, in the words of Anthropic's API.

Source: Anthropic's API reference, "Errors".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from agent.formats.errors import ErrorWords, engine_message, full_message

if TYPE_CHECKING:
    from protos.domain.errors import EdgeForgeError

#: ``error.type`` by HTTP status.
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
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


def anthropic_body(status: int, message: str) -> bytes:
    """Return the JSON body of an error response or event."""
    kind = _TYPES.get(status, "api_error")
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}})


def response_body(error: EdgeForgeError, status: int) -> bytes:
    """Return the JSON body of an error response."""
    return anthropic_body(status, full_message(error))


def event_data(error: EdgeForgeError, _events_before: int) -> bytes:
    """Return the JSON of an error event."""
    return anthropic_body(error.http_status, full_message(error))


def _refusal(status: int, body: bytes) -> bytes:
    message = engine_message(body)
    if message is None:
        message = "the engine refused the request"
    return anthropic_body(status, message)


ANTHROPIC_WORDS = ErrorWords(body=response_body, event_data=event_data, refusal=_refusal)
