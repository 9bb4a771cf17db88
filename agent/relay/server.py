"""The server's side of a connection: one request at a time, deadlines, back-pressure."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from typing import TYPE_CHECKING, Protocol, cast

from agent.relay.last_mile import last_mile_ms
from agent.relay.messages import Header, Request, whole_response
from agent.relay.reading import RequestReader
from protos.domain.errors import EdgeForgeError, RequestTimeout, TooLarge

if TYPE_CHECKING:
    from agent.relay.connections import ConnectionSet
    from agent.relay.deadlines import Deadlines

_log = logging.getLogger(__name__)

#: Requests that a client may send ahead on one connection.
MAX_PIPELINED = 4
#: How long a refused client may take to read the refusal.
_LINGER_MS = 2_000.0
#: A round trip that was read counts for so long: the kernel smooths it over several anyway, and
#: reading it costs 6 us.
_LAST_MILE_HOLDS_MS = 500.0


class Drainable(Protocol):
    """Whoever fills a connection's write buffer and must pause when it is full."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class ServerConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, owner: ConnectionSet) -> None:
        self._owner = owner
        self._limits = owner.limits
        self.transport: asyncio.Transport | None = None
        #: What the gate made of the connection, such as a peer's identity.
        self.context: object = None
        self.serving = False
        self._in_handler = False
        self.deadline_mono_ms = float("inf")
        self._last_mile_ms = 0.0
        self._last_mile_until_mono_ms = float("-inf")
        self._reader = RequestReader(owner.limits, owner.now_mono_ms, self)
        self._queue: deque[Request] = deque()
        #: Serves one request after the other, from the first on; in between it waits for ``_next``.
        self._task: asyncio.Task[None] | None = None
        self._next: asyncio.Future[Request] | None = None
        self._source: Drainable | None = None
        self._write_paused = False
        self._closing = False
        self._read_paused = False
        self._successor: asyncio.Protocol | None = None

    # -- asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self.transport = transport
        owner = self._owner
        owner.accepted += 1
        if len(owner.live) >= self._limits.max_connections or owner.draining:
            owner.refused += 1
            self._closing = True
            transport.abort()
            return
        if owner.gate is not None:
            try:
                self.context = owner.gate(transport)
            except EdgeForgeError as error:
                _log.warning("connection refused reason=%s", error)
                owner.refused += 1
                self._closing = True
                transport.abort()
                return
        owner.live.add(self)
        set_nodelay(transport)
        transport.set_write_buffer_limits(high=self._limits.buffer_bytes)
        self.deadline_mono_ms = owner.now_mono_ms() + self._limits.header_timeout_ms

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.live.discard(self)
        self._closing = True
        self.deadline_mono_ms = float("inf")
        if self._task is not None:
            self._task.cancel()
        if self.serving and not self._in_handler:  # its handler will never begin
            self.serving = False
            self._owner.count_busy(-1)

    def eof_received(self) -> bool:
        """Treat a half-closed client as gone; a request in progress is aborted."""
        if self.transport is not None:
            self.transport.abort()
        return False

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._source is not None:
            self._source.pause()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._source is not None:
            self._source.resume()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            self._reader.feed(data)
        except EdgeForgeError as error:
            self._refuse(error)

    # -- what the reader tells -------------------------------------------------------------------

    def on_request_begin(self, now_mono_ms: float) -> None:
        if not self.serving:
            self.deadline_mono_ms = now_mono_ms + self._limits.header_timeout_ms

    def on_request_head(self, now_mono_ms: float, *, expects_continue: bool) -> None:
        if self.serving:
            return
        self.deadline_mono_ms = now_mono_ms + self._limits.body_timeout_ms
        if expects_continue:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_request(self, request: Request) -> None:
        if len(self._queue) >= MAX_PIPELINED:
            raise TooLarge("too many pipelined requests", "wait for an answer before the next")
        self._queue.append(request)
        if self.serving:
            self._pause_reading_when_full()
        else:
            self._serve_next()

    # -- what handlers use -----------------------------------------------------------------------

    @property
    def closing(self) -> bool:
        """Whether nothing more can be said to this client."""
        return self._closing

    @property
    def deadlines(self) -> Deadlines:
        """Where deadlines of this client's requests are set."""
        return self._owner.deadlines

    def last_mile_ms(self, now_mono_ms: float) -> float:
        """Return the smoothed round trip to this client, read again when it has grown old."""
        if now_mono_ms >= self._last_mile_until_mono_ms:
            self._last_mile_ms = last_mile_ms(self.transport)
            self._last_mile_until_mono_ms = now_mono_ms + _LAST_MILE_HOLDS_MS
        return self._last_mile_ms

    def write(self, data: bytes) -> None:
        """Send bytes as they are; dropped when the client is gone."""
        if self.transport is not None and not self._closing:
            self.transport.write(data)

    def flow_from(self, source: Drainable | None) -> None:
        """Let ``source`` be paused while this client reads too slowly."""
        self._source = source
        if source is not None and self._write_paused:
            source.pause()

    def respond(self, request: Request, status: int, headers: list[Header], body: bytes) -> None:
        """Send a whole response; the connection closes after it when it must."""
        keep_alive = self.may_keep_alive(request)
        self.write(whole_response(status, headers, body, keep_alive=keep_alive))

    def may_keep_alive(self, request: Request) -> bool:
        """Whether this connection may carry another request after ``request``."""
        return request.keep_alive and not self._owner.draining and not self._closing

    def hand_off(self, request: Request, successor: asyncio.Protocol) -> None:
        """Give the connection for good to another protocol, beginning with ``request``."""
        transport = self.transport
        if transport is None or self._closing:
            return
        self._closing = True
        self._owner.live.discard(self)
        self.deadline_mono_ms = float("inf")
        if self._read_paused:
            transport.resume_reading()
        self._successor = successor
        transport.set_protocol(successor)
        successor.connection_made(transport)
        successor.data_received(_as_received(request))

    def close(self) -> None:
        """Close once everything written has been sent, or the client has not read it in time."""
        self._closing = True
        if self.transport is not None:
            self.transport.close()
            self.deadline_mono_ms = self._owner.now_mono_ms() + self._limits.idle_timeout_ms

    def close_when_idle(self) -> None:
        """Close now if no request is in progress; else its end closes it."""
        if not self.serving:
            self.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._closing = True
        if self.transport is not None:
            self.transport.abort()

    def deadline_passed(self) -> None:
        """End a connection that kept us waiting: 408 within a request, silence between two."""
        self.deadline_mono_ms = float("inf")
        self._owner.timed_out += 1
        if self._closing:
            self.abort()
        elif self._reader.within_request:
            self._refuse(RequestTimeout("the request did not arrive in time"))
        else:
            self.close()

    # -- inside ----------------------------------------------------------------------------------

    def _pause_reading_when_full(self) -> None:
        if len(self._queue) >= MAX_PIPELINED - 1 and self.transport is not None:
            self._read_paused = True
            self.transport.pause_reading()

    def _refuse(self, error: EdgeForgeError) -> None:
        """Answer a request that cannot be read on, and close; bytes behind it mean nothing."""
        if self.serving:
            self.abort()
            return
        status, headers, body = self._owner.render_error(error, self._reader.path)
        self.write(whole_response(status, headers, body, keep_alive=False))
        self._close_gently()

    def _close_gently(self) -> None:
        """Close behind an answer that came before the request's end.

        Closed with bytes unread, the kernel resets the connection, and the answer may be lost with
        it. So what still comes is read and dropped, for ``_LINGER_MS`` at most.
        """
        transport = self.transport
        if transport is None or not transport.can_write_eof():
            self.close()
            return
        self._closing = True
        transport.write_eof()
        self.deadline_mono_ms = self._owner.now_mono_ms() + _LINGER_MS

    def _serve_next(self) -> None:
        if self._closing or not self._queue:
            return
        request = self._queue.popleft()
        self.serving = True
        self._owner.count_busy(1)
        self.deadline_mono_ms = float("inf")
        if self._read_paused and self.transport is not None:
            self._read_paused = False
            self.transport.resume_reading()
        if self._next is None:
            self._task = asyncio.get_running_loop().create_task(self._serve_all(request))
        else:
            self._next.set_result(request)

    async def _serve_all(self, request: Request) -> None:
        """Serve ``request`` and those behind it, one at a time: a task each costs them 5 us more.

        Cancelled when the client goes away.
        """
        loop = asyncio.get_running_loop()
        while True:
            await self._serve(request)
            if self._closing:
                return
            if not self.may_keep_alive(request):
                self.close()
                return
            self._next = loop.create_future()
            if self._queue:
                self._serve_next()
            else:
                self._wait_for_next()
            request = await self._next

    async def _serve(self, request: Request) -> None:
        self._in_handler = True
        try:
            await self._owner.handler(request, self)
        except asyncio.CancelledError:
            self.abort()
            raise
        except Exception:
            _log.exception("request failed path=%s", request.path)
            self.abort()
        finally:
            self.flow_from(None)
            self.serving = self._in_handler = False
            self._owner.count_busy(-1)

    def _wait_for_next(self) -> None:
        limit_ms = self._limits.idle_timeout_ms
        if self._reader.within_request:
            limit_ms = self._limits.header_timeout_ms
        self.deadline_mono_ms = self._owner.now_mono_ms() + limit_ms


def set_nodelay(transport: asyncio.BaseTransport) -> None:
    """Switch Nagle's algorithm off: held back with delayed ACKs it costs a token 40 ms."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _as_received(request: Request) -> bytes:
    """Return ``request`` as bytes again, its body framed by length."""
    framing = (b"content-length", b"transfer-encoding", b"expect")
    kept = [header for header in request.raw_headers if header[0].lower() not in framing]
    if request.body:
        kept.append((b"content-length", b"%d" % len(request.body)))
    head = [b"%b %b HTTP/1.1" % (request.method.encode("latin-1"), request.target)]
    head.extend(b"%b: %b" % header for header in kept)
    return b"\r\n".join(head) + b"\r\n\r\n" + request.body
