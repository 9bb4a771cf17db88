"""The only translation of our errors into what a client of each format understands.

Anthropic's words on ``/v1/messages``, OpenAI's everywhere else.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import orjson

from agent.core.routes import Api
from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from agent.relay.messages import Header

_JSON: Header = (b"content-type", b"application/json")
_INTERNAL = EdgeForgeError("internal error", "try again; the agent's log has the cause")


#: ``error.type`` of the Anthropic body. Source: Anthropic's API reference, "Errors".
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "request_too_large",
    421: "invalid_request_error",
    429: "rate_limit_error",
    431: "request_too_large",
    503: "overloaded_error",
    504: "timeout_error",
}


def render_error(
    error: EdgeForgeError, path: str = "", status: int | None = None
) -> tuple[int, list[Header], bytes]:
    """Return status, headers and body of ``error`` for who asked for ``path``."""
    status = status or error.http_status
    headers = [_JSON]
    if error.retry_after_s is not None or status in (429, 503):
        seconds = max(1, math.ceil(error.retry_after_s or 1.0))
        headers.append((b"retry-after", b"%d" % seconds))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if _is_anthropic(path):
        return status, headers, _anthropic_body(status, _told(error))
    return status, headers, orjson.dumps({"error": _openai_object(error)})


def error_event(error: EdgeForgeError, path: str = "", events_before: int = 0) -> bytes:
    """Return the event that ends a stream which broke after its first byte.

    ``events_before`` have been sent; Responses numbers its events.
    """
    if _is_anthropic(path):
        body = _anthropic_body(error.http_status, _told(error))
    elif path == Api.RESPONSES:
        told = _openai_object(error)
        # The fields as documented, and "error" as OpenAI's clients look for it in any stream.
        flat = {"type": "error", "sequence_number": events_before, "error": told}
        flat |= {name: told[name] for name in ("code", "message", "param")}
        body = orjson.dumps(flat)
    else:
        body = orjson.dumps({"error": _openai_object(error)})
    return b"event: error\ndata: " + body + b"\n\n"


def engine_refusal(path: str, status: int, body: bytes) -> bytes:
    """Return an engine's own error body in the words of ``path``.

    vLLM answers a body that it cannot validate in OpenAI's shape on every route.
    """
    if not _is_anthropic(path):
        return body
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = None
    inner = said.get("error") if isinstance(said, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else None
    if isinstance(message, str):
        return _anthropic_body(status, message)
    told = "the engine refused the request"
    if path == Api.COUNT_TOKENS and status == 404:
        told = "the engine of this model counts no tokens. Send the message: its usage tells them."
    return _anthropic_body(status, told)


def internal_error() -> EdgeForgeError:
    """Return what a client is told of a bug."""
    return _INTERNAL


def _is_anthropic(path: str) -> bool:
    return path == Api.MESSAGES or path.startswith(f"{Api.MESSAGES}/")


def _told(error: EdgeForgeError) -> str:
    return f"{error.message}. {error.hint}." if error.hint else error.message


def _openai_object(error: EdgeForgeError) -> dict[str, object]:
    return {
        "message": _told(error),
        "type": error.openai_type,
        "param": error.param,
        "code": error.code,
    }


def _anthropic_body(status: int, message: str) -> bytes:
    kind = _ANTHROPIC_TYPES.get(status, "api_error")
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}})
