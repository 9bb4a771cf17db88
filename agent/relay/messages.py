"""HTTP messages of the relay: parsed requests, and responses and requests ready to send."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

Header = tuple[bytes, bytes]

#: Headers of one connection, which are not forwarded. Source: RFC 9110, 7.6.1.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
LAST_CHUNK = b"0\r\n\r\n"
#: Sent to an HTTP/1.0 client that asked for it; HTTP/1.1 keeps connections open by default.
KEEP_ALIVE: Header = (b"connection", b"keep-alive")

#: A client's request id is kept only if it is short and safe in a log.
_CLIENT_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_BODILESS = frozenset({204, 304})
_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}
_field = b": ".join


@dataclass(slots=True)
class Request:
    """One request. Names in ``headers`` are lower case. Repeated headers that mean something here
    are refused (``reading.SINGLE_HEADERS``); of others the last counts.
    """

    method: str
    target: bytes
    headers: dict[bytes, bytes]
    body: bytes
    keep_alive: bool
    #: When its first byte was read; the first-token budget starts here.
    first_byte_mono_ms: float
    #: Smoothed round trip of the client's connection, 0 where the kernel does not provide it.
    last_mile_ms: float = 0.0
    #: The client uses HTTP/1.0: no chunked response, no interim response.
    http10: bool = False
    #: Id of this request in logs, traces and response headers; empty on the peer port.
    trace_id: str = ""
    #: CORS headers for the response; empty without ``Origin``.
    cors_headers: tuple[Header, ...] = ()
    #: Who holds the bytes of the body, which ``held_bytes`` counts; empty: nobody is known.
    body_owner: str = ""
    held_bytes: int = 0
    #: Address at the other end of the connection; empty: unknown. A proxy's header changes nothing.
    client_host: str = ""
    #: What the gate for heads found, for the handler.
    admitted: object = None
    #: The target without its query.
    path: str = field(init=False)

    def __post_init__(self) -> None:
        self.path = self.target.partition(b"?")[0].decode("latin-1")

    @property
    def client_request_id(self) -> str:
        """The client's own ``x-request-id``; empty if it has none, or one unsafe in a log."""
        given = self.headers.get(b"x-request-id", b"")
        return given.decode("ascii") if _CLIENT_REQUEST_ID.fullmatch(given) else ""

    def answer_headers(self) -> list[Header]:
        """Return the headers that every response to this request carries. Hot."""
        if not self.trace_id:
            return list(self.cors_headers)
        return [*id_headers(self.trace_id), *self.cors_headers]


def id_headers(trace_id: str) -> tuple[Header, Header, Header]:
    """Return the headers in which OpenAI's, Anthropic's and our clients expect the request id."""
    value = trace_id.encode()
    return (b"x-request-id", value), (b"request-id", value), (b"x-edgeforge-trace-id", value)


def response_head(status: int, headers: Iterable[Header], *, keep_alive: bool) -> bytes:
    """Return the head of a response; ``headers`` say how its body is framed. Hot."""
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown" % status, *map(_field, headers)]
    if not keep_alive:
        lines.append(b"connection: close")
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def whole_response(
    status: int,
    headers: Iterable[Header],
    body: bytes,
    *,
    keep_alive: bool,
    head_only: bool = False,
) -> bytes:
    """Return a response with its body and ``content-length``.

    ``head_only`` answers HEAD: the length of the body, without it. 204 has neither.
    """
    if status in _BODILESS:
        return response_head(status, headers, keep_alive=keep_alive)
    framed = [*headers, (b"content-length", b"%d" % len(body))]
    head = response_head(status, framed, keep_alive=keep_alive)
    return head if head_only else head + body


def request_bytes(
    method: str, target: bytes, host: bytes, headers: Iterable[Header], body: bytes
) -> bytes:
    """Return a whole request for an engine or a peer. Hot."""
    request_line = b"%b %b HTTP/1.1\r\nhost: %b" % (method.encode(), target, host)
    lines = [request_line, *map(_field, headers)]
    if body or method != "GET":
        lines.append(b"content-length: %d" % len(body))
    lines.append(b"\r\n")
    return b"\r\n".join(lines) + body


def chunk(data: bytes) -> bytes:
    """Return ``data`` as one chunk of a chunked body. ``data`` is not empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)
