"""Client connections: to an engine's Unix socket, to its port, or to a peer over TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import httptools

from agent.relay.messages import HOP_BY_HOP, Header
from agent.relay.tcp import tune

#: Largest response head; an engine that sends more is broken.
MAX_RESPONSE_HEAD_BYTES = 64 * 1024
#: Fields behind a body that are read.
_MAX_TRAILERS = 8
#: Bytes of a request written at once: to encrypt 8 MiB takes the event loop 10 ms.
SLICE_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect. ``name`` is for errors; ``server_name`` must be in the certificate."""

    name: str
    host_header: bytes
    uds_path: str | None = None
    host: str = ""
    port: int = 0
    tls: bool = False
    server_name: str | None = None
    #: Local address to connect from; None leaves the choice to the kernel.
    source_address: str | None = None


class ResponseSink(Protocol):
    """Receives one response, in order; ``on_lost`` or ``on_complete`` comes last, once."""

    def on_head(self, status: int, headers: list[Header]) -> None: ...
    def on_body(self, data: bytes) -> None: ...

    def on_read_end(self) -> None:
        """Called after the bytes of each read; gathered bytes can be passed on now."""

    def on_trailers(self, trailers: list[Header]) -> None:
        """Fields behind the body, if there are any; before ``on_complete``."""

    def on_complete(self) -> None: ...
    def on_lost(self, reason: str, *, answered: bool) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """One connection; carries one request at a time."""

    def __init__(self, on_closed: Callable[[UpstreamConnection], None]) -> None:
        self._on_closed = on_closed
        self._transport: asyncio.Transport | None = None
        self._sink: ResponseSink | None = None
        #: One parser for all responses of the connection.
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._headers: list[Header] = []
        self._head_bytes = 0
        #: How many of the headers are of the head; the others are behind the body.
        self._head_fields = 0
        self._head_done = False
        self._answered = False
        self._reusable = False
        #: The part of a large request that is not written yet.
        self._unsent = memoryview(b"")
        self.requests = 0
        self.closed = False

    # -- asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport does not inherit from asyncio.Transport
        self._transport = cast("asyncio.Transport", transport)
        tune(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._parser = None  # breaks the reference cycle with this connection
        self._on_closed(self)
        self._lose("connection closed by the other side" if exc is None else reason_of(exc))

    def eof_received(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        sink, parser = self._sink, self._parser
        if sink is None or parser is None:
            self.abort()  # bytes without a request
            return
        self._answered = True
        if not self._head_done:
            self._head_bytes += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._lose(f"malformed HTTP response: {error}")
            self.abort()
            sink.on_read_end()  # the response may have been complete before the error
            return
        if not self._head_done and self._head_bytes > MAX_RESPONSE_HEAD_BYTES:
            self._lose("response head too large")
            self.abort()
            return
        sink.on_read_end()
        if self._sink is None and self._reusable is False and self.requests:
            self.abort()

    # -- httptools -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._sink is None:
            self._reusable = False  # surplus bytes after a response

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done or len(self._headers) < self._head_fields + _MAX_TRAILERS:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._parser is None or self._sink is None:
            return
        status = self._parser.get_status_code()
        if status < 200:  # interim responses, such as 100 Continue, come before the answer
            self._headers = []
            return
        self._head_done, self._head_fields = True, len(self._headers)
        headers = [header for header in self._headers if header[0] not in HOP_BY_HOP]
        self._sink.on_head(status, headers)

    def on_body(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink.on_body(data)

    def on_message_complete(self) -> None:
        if not self._head_done or self._sink is None or self._parser is None:
            return
        sink, self._sink = self._sink, None
        self._reusable = self._parser.should_keep_alive() and not self._unsent
        if len(self._headers) > self._head_fields:
            sink.on_trailers(self._headers[self._head_fields :])
        sink.on_complete()

    # -- used by exchanges -----------------------------------------------------------------------

    def send(self, request: bytes, sink: ResponseSink) -> None:
        """Send one request; ``sink`` receives its response."""
        if self.closed or self._transport is None:
            sink.on_lost("connection closed by the other side", answered=False)
            return
        self._sink = sink
        self._headers = []
        self._head_bytes = 0
        #: How many of the headers are of the head; the others are behind the body.
        self._head_fields = 0
        self._head_done = False
        self._answered = False
        self._reusable = False
        self.requests += 1
        if len(request) <= SLICE_BYTES:
            self._transport.write(request)
        else:
            self._unsent = memoryview(request)
            self._write_slice()

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent."""
        transport = self._transport
        return (
            not self.closed
            and self._sink is None
            and transport is not None
            and not transport.is_closing()
            and (self._reusable or self.requests == 0)
        )

    def pause(self) -> None:
        """Stop reading: the client is slower than the engine."""
        if self._transport is not None and not self.closed:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Cut the connection; the engine sees a disconnected client and stops generating."""
        self._sink = None
        self._reusable = False
        if self._transport is not None:
            self._transport.abort()

    def _write_slice(self) -> None:
        """Write a slice of a large request, and the next one in the loop's next turn.

        Nothing more is written once the request was cut, or was answered before its end.
        """
        transport, unsent = self._transport, self._unsent
        if self._sink is None or self.closed or transport is None:
            self._unsent = memoryview(b"")
            return
        self._unsent = unsent[SLICE_BYTES:]
        transport.write(bytes(unsent[:SLICE_BYTES]))
        if self._unsent:
            asyncio.get_running_loop().call_soon(self._write_slice)

    def _lose(self, reason: str) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.on_lost(reason, answered=self._answered)


def reason_of(error: BaseException) -> str:
    """Return why a connection failed, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return f"{type(error).__name__}: {error}"
