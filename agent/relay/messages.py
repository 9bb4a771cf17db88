"""HTTP/1.1 messages as the relay handles them: parsed heads, and heads ready to send."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

Header = tuple[bytes, bytes]

#: Headers that belong to one connection, never to what travels through it. Source: RFC 9110, 7.6.1.
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

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b" % (status.value, status.phrase.encode())
    for status in HTTPStatus
}
_field = b": ".join


@dataclass(slots=True)
class Request:
    """One request, whole. ``headers`` has lower-case names, and the last of repeated ones."""

    method: str
    target: bytes
    headers: dict[bytes, bytes]
    body: bytes
    keep_alive: bool
    #: When its first byte was read: the budget clock starts here.
    first_byte_mono_ms: float
    #: Smoothed round trip of the client's connection, 0 where the kernel does not say.
    last_mile_ms: float = 0.0
    raw_headers: list[Header] = field(default_factory=list)
    #: The target without its query.
    path: str = field(init=False)

    def __post_init__(self) -> None:
        self.path = self.target.partition(b"?")[0].decode("latin-1")


def response_head(status: int, headers: Iterable[Header], *, keep_alive: bool) -> bytes:
    """Return the head of a response; ``headers`` say how its body is framed. Hot."""
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown" % status, *map(_field, headers)]
    if not keep_alive:
        lines.append(b"connection: close")
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def whole_response(
    status: int, headers: Iterable[Header], body: bytes, *, keep_alive: bool
) -> bytes:
    """Return a response with its body and ``content-length``."""
    framed = [*headers, (b"content-length", b"%d" % len(body))]
    return response_head(status, framed, keep_alive=keep_alive) + body


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
