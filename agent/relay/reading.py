"""Requests read off one connection, whole.

httptools parses and has no limits; every one of them is enforced here, before a byte more is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import httptools

from agent.relay.messages import Header, Request
from protos.domain.errors import EdgeForgeError, HeadersTooLarge, InvalidRequest, TooLarge

if TYPE_CHECKING:
    from agent.relay.connections import ServerLimits

#: What a header costs beyond its bytes on the wire: ": " and the line's end.
_HEADER_OVERHEAD_BYTES = 4


class RequestSink(Protocol):
    """Whoever serves what is read. What it raises, ``RequestReader.feed`` raises."""

    def on_request_begin(self, now_mono_ms: float) -> None:
        """The first byte of a request is here."""

    def on_request_head(self, now_mono_ms: float, *, expects_continue: bool) -> None:
        """A head is here; ``expects_continue``: its client waits before it sends the body."""

    def on_request(self, request: Request) -> None:
        """A whole request is here."""


class RequestReader:
    """Makes bytes into requests for ``sink``; one at a time, each from its first byte on."""

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
        """Whether a part of a request has come, and not all of it."""
        return self._first_byte_mono_ms != 0.0

    @property
    def path(self) -> str:
        """The path of the request that is being read, as far as it has come."""
        return self._target.partition(b"?")[0].decode("latin-1")

    def feed(self, data: bytes) -> None:
        """Take in what came. Raises: EdgeForgeError for what is malformed or over a limit."""
        if self._first_byte_mono_ms == 0.0:
            self._begin()
        if not self._head_done:
            self._head_bytes += len(data)
        try:
            self._parse(data)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, EdgeForgeError):
                raise
            raise cause from None
        except httptools.HttpParserError as error:
            raise InvalidRequest(f"malformed HTTP request: {error}") from error
        if not self._head_done and self._head_bytes > self._limits.max_header_bytes:
            raise self._head_too_large()

    def _parse(self, data: bytes) -> None:
        """Feed the parser; an offered upgrade is not taken. Source: RFC 9110, 7.8."""
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = data[offer.args[0] :]
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
        if not self._head_done:  # a trailer says nothing that is believed. RFC 9110, 6.5.1
            self._raw_headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._head_done = True
        self._headers = {name.lower(): value for name, value in self._raw_headers}
        declared = self._headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._limits.max_body_bytes:
            raise self._body_too_large()
        framed = declared != b"0" or b"transfer-encoding" in self._headers
        if self._parser.should_upgrade() and framed:  # its body would be taken for what follows
            raise InvalidRequest("an upgrade was offered with a body", "leave out Upgrade")
        expects_continue = self._headers.get(b"expect", b"").lower() == b"100-continue"
        self._sink.on_request_head(self._now_mono_ms(), expects_continue=expects_continue)

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.max_body_bytes:
            raise self._body_too_large()
        self._body.append(body)

    def on_message_complete(self) -> None:
        request = Request(
            method=self._parser.get_method().decode("latin-1"),
            target=self._target,
            headers=self._headers,
            body=self._body[0] if len(self._body) == 1 else b"".join(self._body),
            keep_alive=self._parser.should_keep_alive(),
            first_byte_mono_ms=self._first_byte_mono_ms,
            raw_headers=self._raw_headers,
        )
        self._reset()
        self._sink.on_request(request)

    # -- inside ----------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._target = b""
        self._headers = {}
        self._raw_headers: list[Header] = []
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._counted_head_bytes = 0
        self._head_done = False
        self._first_byte_mono_ms = 0.0

    def _begin(self) -> None:
        self._first_byte_mono_ms = now = self._now_mono_ms()
        self._sink.on_request_begin(now)

    def _head_too_large(self) -> HeadersTooLarge:
        return HeadersTooLarge(f"request head over {self._limits.max_header_bytes} bytes")

    def _body_too_large(self) -> TooLarge:
        return TooLarge(f"request body over {self._limits.max_body_bytes} bytes")
