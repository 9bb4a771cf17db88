"""The only translation of EdgeForge's errors into what clients of each format understand.

Here are the shared parts and OpenAI's words, which are also used for unknown paths.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from protos.domain.errors import EdgeForgeError, EngineFailed, InvalidRequest

Header = tuple[bytes, bytes]

_JSON: Header = (b"content-type", b"application/json")
_INTERNAL = EdgeForgeError("internal error", "try again; the agent's log has the cause")


@dataclass(frozen=True, slots=True, eq=False)
class ErrorWords:
    """How the clients of one vendor read errors."""

    #: Returns the JSON body of an error and its HTTP status.
    body: Callable[[EdgeForgeError, int], bytes]
    #: Returns the JSON of an error event from the error and the number of events sent before.
    event_data: Callable[[EdgeForgeError, int], bytes]
    #: Returns the body for the client from an engine's status and error body.
    refusal: Callable[[int, bytes], bytes]

    def render(
        self, error: EdgeForgeError, status: int | None = None
    ) -> tuple[int, list[Header], bytes]:
        """Return status, headers and body; ``status`` replaces the error's own."""
        status = status or error.http_status
        headers = [_JSON]
        if error.retry_after_s is not None or status in (429, 503):
            seconds = max(1, math.ceil(error.retry_after_s or 1.0))
            headers.append((b"retry-after", b"%d" % seconds))
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        return status, headers, self.body(error, status)


def internal_error() -> EdgeForgeError:
    """Return the error that a client sees for a bug."""
    return _INTERNAL


def full_message(error: EdgeForgeError) -> str:
    """Return message and hint as one text."""
    return f"{error.message}. {error.hint}." if error.hint else error.message


def openai_object(error: EdgeForgeError) -> dict[str, object]:
    """Return the ``error`` object of OpenAI's APIs. Source: OpenAI's API reference, "Errors"."""
    return {
        "message": full_message(error),
        "type": error.openai_type,
        "param": error.param,
        "code": error.code,
    }


def openai_body(error: EdgeForgeError, _status: int) -> bytes:
    """Return the JSON body of an error response."""
    return orjson.dumps({"error": openai_object(error)})


def unchanged(_status: int, body: bytes) -> bytes:
    """Return an engine's error body as it is: vLLM uses OpenAI's shape on every route."""
    return body


def engine_message(body: bytes) -> str | None:
    """Return the message of an engine's error body, which has OpenAI's shape; None without one."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    inner = parsed.get("error") if isinstance(parsed, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else None
    return message if isinstance(message, str) else None


def engine_error(status: int, body: bytes) -> EdgeForgeError:
    """Return an engine's error response as an error, for a client that has a response head."""
    message = engine_message(body) or f"the engine answered {status}"
    return InvalidRequest(message) if status < 500 else EngineFailed(message)


OPENAI_WORDS = ErrorWords(body=openai_body, event_data=openai_body, refusal=unchanged)
