"""The only translation of EdgeForge's errors into what clients of each format understand.

Here are the shared parts and OpenAI's words, which are also used for unknown paths.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from agent.formats.json_size import loads_bounded
from protos.domain.errors import (
    EdgeForgeError,
    EngineFailed,
    InsufficientQuota,
    InvalidRequest,
    Misdirected,
    RateLimited,
)

if TYPE_CHECKING:
    from protos.domain.quota import RateState

Header = tuple[bytes, bytes]

_JSON: Header = (b"content-type", b"application/json")
#: Where a request that is refused with 421 may be sent, the nearest address first.
IN_ZONE = b"x-edgeforge-in-zone"
#: OpenAI's code for a prompt, or a prompt and its answer, over the model's context.
CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
_MAX_MESSAGE_CHARS = 1_000
_OVERFLOW = re.compile(r"maximum context length is (?P<limit>\d{1,12}) tokens")
_REQUESTED = re.compile(r"(?P<tokens>\d{1,12}) (?:input |output )?tokens")
_INPUT_TOO_LONG = re.compile(
    r"Input length \((?P<tokens>\d{1,12})\) exceeds model's maximum context length "
    r"\((?P<limit>\d{1,12})\)"
)
_OUTPUT_TOO_LONG = re.compile(
    r"max_(?:output_|completion_)?tokens=(?P<tokens>\d{1,12}) cannot be greater than "
    r"max_(?:model_len|total_tokens)=(?P<limit>\d{1,12})"
)
_FRAME = re.compile(r'\s*File "[^"\n]*", line \d+(?:, in \S+)?(?:\n[ \t]+[^\n]*)?')
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_PATH = re.compile(r"(?<![\w.:/])(?:/[\w.@+\-]+){2,}/?")
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
    #: Returns the headers that tell the limits a minute of the account and the key.
    rate_headers: Callable[[Iterable[RateState]], list[Header]]
    #: The HTTP status where a balance is used up, if it is not the error's own.
    no_quota_status: int | None = None

    def render(
        self, error: EdgeForgeError, status: int | None = None
    ) -> tuple[int, list[Header], bytes]:
        """Return status, headers and body; ``status`` replaces the error's own."""
        if status is None and isinstance(error, InsufficientQuota):
            status = self.no_quota_status
        status = status or error.http_status
        headers = [_JSON]
        waits = status in (429, 503) and not isinstance(error, InsufficientQuota)
        if error.retry_after_s is not None or waits:
            seconds = max(1, math.ceil(error.retry_after_s or 1.0))
            headers.append((b"retry-after", b"%d" % seconds))
        if isinstance(error, RateLimited):
            headers += self.rate_headers(error.limited)
        if isinstance(error, Misdirected) and error.in_zone:
            headers.append((IN_ZONE, ", ".join(error.in_zone).encode()))
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        return status, headers, self.body(error, status)


def openai_rate_headers(states: Iterable[RateState]) -> list[Header]:
    """Return OpenAI's headers. Source: OpenAI's guide "Rate limits", "Rate limits in headers"."""
    headers: list[Header] = []
    for state in states:
        kind = state.kind.encode()
        headers += (
            (b"x-ratelimit-limit-" + kind, b"%d" % state.limit),
            (b"x-ratelimit-remaining-" + kind, b"%d" % state.remaining),
            (b"x-ratelimit-reset-" + kind, reset_text(state.reset_ms)),
        )
    return headers


def reset_text(reset_ms: float) -> bytes:
    """Return a duration as OpenAI writes it: "6m0s", "8.64s", "20ms"."""
    whole_ms = max(0, math.ceil(reset_ms))
    if whole_ms < 1_000:
        return b"%dms" % whole_ms
    minutes, rest_ms = divmod(whole_ms, 60_000)
    seconds = f"{rest_ms / 1_000:.3f}".rstrip("0").rstrip(".")
    return (f"{minutes}m" if minutes else "").encode() + seconds.encode() + b"s"


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


def engine_message(body: bytes) -> str | None:
    """Return the message of an engine's error body, which has OpenAI's shape; None without one."""
    try:
        parsed = loads_bounded(body)
    except orjson.JSONDecodeError:
        return None
    inner = parsed.get("error") if isinstance(parsed, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else None
    return message if isinstance(message, str) else None


def engine_error(status: int, body: bytes) -> EdgeForgeError:
    """Return an engine's error response as an error in words that clients recognise."""
    message = engine_message(body)
    if status >= 500:
        return EngineFailed(_without_internals(message or "") or f"the engine answered {status}")
    if message is None:
        return InvalidRequest("the engine refused the request")
    overflow = read_overflow(message)
    if overflow is None:
        return InvalidRequest(message)
    return InvalidRequest(overflow.message, code=CONTEXT_LENGTH_EXCEEDED)


def openai_refusal(status: int, body: bytes) -> bytes:
    """Return an engine's error body as it is where it has OpenAI's shape, as vLLM's has.

    An overflow gets OpenAI's words and code, a server error loses what is internal, and what has
    another shape is replaced.
    """
    message = engine_message(body)
    if message is not None and status < 500 and read_overflow(message) is None:
        return body
    return openai_body(engine_error(status, body), status)


@dataclass(frozen=True, slots=True)
class Overflow:
    """A request for more tokens than the model's context has."""

    limit_tokens: int
    #: What was requested, at least.
    requested_tokens: int
    message: str
    #: Whether the answer alone may have more tokens than the context.
    is_output: bool = False


def read_overflow(message: str) -> Overflow | None:
    """Return what an engine says of its context in any of its wordings; None for other errors.

    Sources: vLLM 0.32, ``renderers/params.py`` and ``entrypoints/serve/utils/api_utils.py``.
    """
    if len(message) > _MAX_MESSAGE_CHARS:
        return None
    found = _OVERFLOW.search(message)
    if found is not None:
        limit = int(found["limit"])
        counts = [int(said["tokens"]) for said in _REQUESTED.finditer(message, found.end())]
        return Overflow(limit, max(limit + 1, *counts, 0), message)
    found = _INPUT_TOO_LONG.search(message)
    if found is not None:
        limit, tokens = int(found["limit"]), int(found["tokens"])
        said_now = f"{_limit_text(limit)} However, your prompt contains {tokens} input tokens."
        return Overflow(limit, tokens, said_now)
    found = _OUTPUT_TOO_LONG.search(message)
    if found is not None:
        limit, tokens = int(found["limit"]), int(found["tokens"])
        said_now = f"{_limit_text(limit)} However, you requested {tokens} output tokens."
        return Overflow(limit, tokens, said_now, is_output=True)
    return None


def _limit_text(limit: int) -> str:
    return f"This model's maximum context length is {limit} tokens."


def _without_internals(message: str) -> str:
    """Return a server error's message without tracebacks, addresses in memory and paths."""
    message = message.partition("Traceback (most recent call last)")[0][:_MAX_MESSAGE_CHARS]
    message = _FRAME.sub("", message)
    return _PATH.sub("<path>", _ADDRESS.sub("", message)).strip()


OPENAI_WORDS = ErrorWords(
    body=openai_body,
    event_data=openai_body,
    refusal=openai_refusal,
    rate_headers=openai_rate_headers,
)
