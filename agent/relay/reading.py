"""Reads whole requests from one connection.

httptools parses and has no limits: each limit is enforced here, before more bytes are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import httptools

from agent.relay.messages import Request
from protos.domain.errors import EdgeForgeError, HeadersTooLarge, InvalidRequest, TooLarge

if TYPE_CHECKING:
    from agent.relay.limits import ServerLimits

#: Bytes of a header besides its name and value: ": " and the line's end.
_HEADER_OVERHEAD_BYTES = 4
#: Headers that decide something here: given twice, another program before or behind this one could
#: read the other value. Those of our own are among them.
SINGLE_HEADERS = frozenset(
    {
        b"access-control-request-headers",
        b"access-control-request-method",
        b"anthropic-version",
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"origin",
        b"transfer-encoding",
        b"x-api-key",
        b"x-request-id",
    }
)
_OWN_HEADERS = b"x-edgeforge-"


class RequestSink(Protocol):
    """Receives requests. ``RequestReader.feed`` passes on what it raises."""

    def on_request_begin(self, now_mono_ms: float) -> None:
        """The first byte of a request has arrived."""

    def on_request_head(
        self, request: Request, now_mono_ms: float, *, expects_continue: bool
    ) -> int:
        """A head has arrived; return how large its body may be. Raises to refuse it.

        ``expects_continue``: its client waits before it sends the body.
        """

    def on_body_bytes(self, request: Request, size_bytes: int) -> None:
        """Bytes of a body are announced, or arrive unannounced. Raises to refuse them."""

    def on_request(self, request: Request) -> None:
        """A whole request has arrived."""


class _Nobody:
    """The sink of a connection that is closed."""

    def on_request_begin(self, now_mono_ms: float) -> None: ...
    def on_request_head(
        self, request: Request, now_mono_ms: float, *, expects_continue: bool
    ) -> int:
        return 0

    def on_body_bytes(self, request: Request, size_bytes: int) -> None: ...
    def on_request(self, request: Request) -> None: ...


_NOBODY = _Nobody()


class RequestReader:
    """Parses bytes into requests for ``sink``, one at a time."""

    _target: bytes
    _http10: bool
    _max_body_bytes: int
    _counted_head_bytes: int
    _first_byte_mono_ms: float
    _body_framing: bytes
    #: A ``bytearray`` from its second piece on: pieces of two bytes would take 20 times their size.
    _body: bytes | bytearray
    #: The request whose body is read.
    _request: Request | None

    def __init__(
        self, limits: ServerLimits, now_mono_ms: Callable[[], float], sink: RequestSink
    ) -> None:
        self._limits = limits
        self._now_mono_ms = now_mono_ms
        self._sink = sink
        self._parser = httptools.HttpRequestParser(self)
        self._reset()

    @property
    def within_request(self) -> bool:
        """Whether a request has begun to arrive and is not complete."""
        return self._first_byte_mono_ms != 0.0

    @property
    def path(self) -> str:
        """The path of the request that is being read, as far as it has arrived, undecoded."""
        return self._target.partition(b"?")[0].decode("latin-1")

    def header(self, name: bytes) -> bytes | None:
        """Return a header of the request that is being read, if it has arrived."""
        return self._headers.get(name)

    def drop(self) -> Request | None:
        """Drop the body that has arrived, and return its request; None if no head has arrived."""
        self._body = b""
        request, self._request = self._request, None
        return request

    def release(self) -> Request | None:
        """Let go of sink and parser, which hold this: only the collector would free a circle.

        Return the request whose body has not arrived whole, if there is one.
        """
        self._sink = _NOBODY
        self._parser = httptools.HttpRequestParser(_NOBODY)
        return self.drop()

    def feed(self, data: bytes) -> None:
        """Parse ``data``. Raises: EdgeForgeError for malformed data or over a limit."""
        if self._first_byte_mono_ms == 0.0:
            self._begin()
        if self._head_done:
            self._feed_body(data)
        else:
            self._head_bytes += len(data)
            self._parse(data)
            self._check_head()

    def _check_head(self) -> None:
        if not self._head_done and self._head_bytes > self._limits.max_header_bytes:
            raise self._head_too_large()

    def _feed_body(self, data: bytes) -> None:
        """Parse data after the head, and count the bytes that are not of the body."""
        began_mono_ms, body_bytes = self._first_byte_mono_ms, self._body_bytes
        self._parse(data)
        if self._first_byte_mono_ms == began_mono_ms:
            self._framing_bytes += len(data) - (self._body_bytes - body_bytes)
            if self._framing_bytes > self._limits.max_body_bytes + self._limits.max_header_bytes:
                raise TooLarge("chunks and trailers of the body are over its limit")

    def _parse(self, data: bytes) -> None:
        try:
            self._feed_parser(data)
        except httptools.HttpParserCallbackError as raised:
            cause = raised.__context__
            if not isinstance(cause, EdgeForgeError):
                raise
            raise cause from None
        except httptools.HttpParserError as error:
            raise InvalidRequest(f"malformed HTTP request: {error}") from error

    def _feed_parser(self, data: bytes) -> None:
        """Feed the parser; an offered upgrade is declined. Source: RFC 9110, 7.8."""
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
                framing, self._body_framing = self._body_framing, b""
                if framing:
                    self._parser = httptools.HttpRequestParser(_BodyBehindOffer(self))
                    self._parser.feed_data(framing)
                else:
                    self._parser = httptools.HttpRequestParser(self)
            else:
                return

    # -- httptools -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._first_byte_mono_ms == 0.0:
            self._begin()

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._counted_head_bytes += len(url)
        if self._counted_head_bytes > self._limits.max_header_bytes:
            raise self._head_too_large()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._counted_head_bytes += len(name) + len(value) + _HEADER_OVERHEAD_BYTES
        if self._counted_head_bytes > self._limits.max_header_bytes:
            raise self._head_too_large()
        if self._head_done:
            return  # trailers are dropped. RFC 9110, 6.5.1
        name = name.lower()
        headers = self._headers
        if name in headers and (name in SINGLE_HEADERS or name.startswith(_OWN_HEADERS)):
            self._repeated = name
        headers[name] = value

    def on_headers_complete(self) -> None:
        self._head_done = True
        headers, parser = self._headers, self._parser
        if self._repeated:
            raise _given_twice(self._repeated)
        version = parser.get_http_version()
        if version != "1.1":
            self._check_old_version(version)
        self._method = parser.get_method().decode("latin-1")
        request = self._request = Request(
            method=self._method,
            target=self._target,
            headers=headers,
            body=b"",
            keep_alive=parser.should_keep_alive(),
            first_byte_mono_ms=self._first_byte_mono_ms,
            http10=self._http10,
        )
        if parser.should_upgrade():
            self._decline_upgrade()
        expects_continue = (
            not self._http10 and headers.get(b"expect", b"").lower() == b"100-continue"
        )
        announced_bytes = _announced_bytes(headers)
        if announced_bytes > self._max_body_bytes:
            raise self._body_too_large()
        self._max_body_bytes = self._sink.on_request_head(
            request, self._now_mono_ms(), expects_continue=expects_continue
        )
        if announced_bytes:
            self._announced = True
            if announced_bytes > self._max_body_bytes:
                raise self._body_too_large()
            self._sink.on_body_bytes(request, announced_bytes)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._max_body_bytes:
            raise self._body_too_large()
        request = self._request
        if request is None:
            return  # refused
        if not self._announced:
            self._sink.on_body_bytes(request, len(body))
        whole = self._body
        if isinstance(whole, bytearray):
            whole += body
        elif whole:
            self._body = bytearray(whole)
            self._body += body
        else:
            self._body = body

    def on_message_complete(self) -> None:
        if self._body_framing:
            return  # the parser skips the body after an offered upgrade: another parser reads it
        request = self._request
        if request is None:
            return
        request.body = bytes(self._body)
        self._reset()
        self._sink.on_request(request)

    # -- inside ----------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._method = ""
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._repeated = b""
        self._request = None
        self._http10 = False
        self._max_body_bytes = self._limits.max_body_bytes
        #: Whether the body's length was in the head.
        self._announced = False
        self._body = b""
        self._body_bytes = 0
        #: Bytes after the head that are not of the body: chunk sizes, trailers.
        self._framing_bytes = 0
        #: A head that gives a second parser the framing of the body, when an upgrade is declined.
        self._body_framing = b""
        self._head_bytes = 0
        self._counted_head_bytes = 0
        self._head_done = False
        self._first_byte_mono_ms = 0.0

    def _check_old_version(self, version: str) -> None:
        """Raises: InvalidRequest. Source: RFC 9112, 6.1, for a body of HTTP/1.0."""
        if version != "1.0":
            raise InvalidRequest(f"HTTP/{version} is not served on this connection", "use HTTP/1.1")
        if b"transfer-encoding" in self._headers:
            raise InvalidRequest("Transfer-Encoding in HTTP/1.0", "send Content-Length")
        self._http10 = True

    def _decline_upgrade(self) -> None:
        """Record how the body is framed, because httptools skips it after an offered upgrade."""
        framing = [
            b"%b: %b\r\n" % (name, self._headers[name])
            for name in (b"content-length", b"transfer-encoding")
            if name in self._headers
        ]
        if not framing:
            return
        if self._method == "CONNECT":
            raise InvalidRequest("a CONNECT request with a body")
        self._body_framing = b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(framing)

    def _begin(self) -> None:
        self._first_byte_mono_ms = now = self._now_mono_ms()
        self._sink.on_request_begin(now)

    def _head_too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(f"request head over {self._limits.max_header_bytes} bytes")

    def _body_too_large(self) -> TooLarge:
        return TooLarge(f"request body over {self._max_body_bytes} bytes")


def _announced_bytes(headers: dict[bytes, bytes]) -> int:
    """Return the length in the head, 0 without one. The parser has refused what is no number."""
    given = headers.get(b"content-length", b"0")
    return int(given) if given.isdigit() else 0


def _given_twice(name: bytes) -> InvalidRequest:
    return InvalidRequest(f"the header {name.decode('latin-1')!r} is given twice", "give it once")


class _BodyBehindOffer:
    """Callbacks of a parser that reads a body whose head was read by another parser.

    Its own first head says only how the body is framed, and is dropped.
    """

    def __init__(self, reader: RequestReader) -> None:
        self._reader = reader
        self._in_framing = True
        self.on_body = reader.on_body
        self.on_message_complete = reader.on_message_complete

    def on_message_begin(self) -> None:
        if not self._in_framing:
            self._reader.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._in_framing:
            self._reader.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_framing:
            self._reader.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._in_framing:
            self._in_framing = False
        else:
            self._reader.on_headers_complete()
