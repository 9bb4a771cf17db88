"""The only translation of our errors into what an OpenAI client understands."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import orjson

from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from agent.relay.messages import Header

_JSON: Header = (b"content-type", b"application/json")
_INTERNAL = EdgeForgeError("internal error", "try again; the agent's log has the cause")


def render_error(error: EdgeForgeError) -> tuple[int, list[Header], bytes]:
    """Return status, headers and OpenAI error body of ``error``."""
    headers = [_JSON]
    if error.retry_after_s is not None or error.http_status in (429, 503):
        seconds = max(1, math.ceil(error.retry_after_s or 1.0))
        headers.append((b"retry-after", b"%d" % seconds))
    if error.http_status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return error.http_status, headers, error_body(error)


def error_body(error: EdgeForgeError) -> bytes:
    """Return the OpenAI error object of ``error``."""
    message = f"{error.message}. {error.hint}." if error.hint else error.message
    return orjson.dumps(
        {
            "error": {
                "message": message,
                "type": error.openai_type,
                "param": error.param,
                "code": error.code,
            }
        }
    )


def error_event(error: EdgeForgeError) -> bytes:
    """Return the event that ends a stream which broke after its first byte."""
    return b"event: error\ndata: " + error_body(error) + b"\n\n"


def internal_error() -> EdgeForgeError:
    """Return what a client is told of a bug."""
    return _INTERNAL
