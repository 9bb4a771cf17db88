"""One client's connection: one request at a time, deadlines, back-pressure, framing."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, cast

from agent.relay.messages import (
    KEEP_ALIVE,
    LAST_CHUNK,
    Header,
    Request,
    chunk,
    id_headers,
    response_head,
    whole_response,
)
from agent.relay.reading import RequestReader
from agent.relay.tcp import last_mile_ms, tune
from protos.domain.errors import EdgeForgeError, RequestTimeout, TooLarge

if TYPE_CHECKING:
    from agent.relay.connections import ConnectionSet
    from agent.relay.deadlines import Deadlines

_log = logging.getLogger(__name__)

#: Requests that a client may send on one connection before the first is answered.
MAX_PIPELINED = 4
#: How long a refused client may take to read the refusal.
_LINGER_MS = 2_000.0
#: A measured round trip is reused for this time: the kernel smooths it anyway, and reading it costs
#: 6 us.
_LAST_MILE_HOLDS_MS = 500.0
_CHUNKED: Header = (b"transfer-encoding", b"chunked")

#: Serves one request; cancelled when its client disconnects.
Handler = Callable[[Request, "ServerConnection"], Awaitable[None]]


class Drainable(Protocol):
    """A source that fills a connection's write buffer and pauses when it is full."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class ServerConnection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, owner: ConnectionSet, handler: Handler) -> None:
        self._owner = owner
        self._handler = handler
        self._limits = owner.limits
        self.transport: asyncio.Transport | None = None
        #: What the gate returned for this connection, such as a peer's identity.
        self.context: object = None
        self.serving = False
        self._in_handler = False
        self.deadline_mono_ms = float("inf")
        self._last_mile_ms = 0.0
        self._last_mile_until_mono_ms = float("-inf")
        self._reader = RequestReader(owner.limits, owner.now_mono_ms, self)
        self._queue: deque[Request] = deque()
        #: Serves all requests of this connection; between two it waits for ``_next``.
        self._task: asyncio.Task[None] | None = None
        self._next: asyncio.Future[Request] | None = None
        self._source: Drainable | None = None
        self._write_paused = False
        self._closing = False
        self._read_paused = False
        #: Whether the stream in progress is sent in chunks.
        self._chunked = True

    # -- asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
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
        tune(transport)
        transport.set_write_buffer_limits(high=self._limits.buffer_bytes)
        self.deadline_mono_ms = owner.now_mono_ms() + self._limits.header_timeout_ms

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.live.discard(self)
        self._closing = True
        self.deadline_mono_ms = float("inf")
        self._reader.release()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        if self.serving and not self._in_handler:  # the handler has not begun and never will
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

    # -- called by the reader --------------------------------------------------------------------

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
        owner = self._owner
        request.trace_id = owner.make_trace_id()
        if owner.cors_headers is not None and (origin := request.headers.get(b"origin")):
            request.cors_headers = owner.cors_headers(origin)
        self._queue.append(request)
        if self.serving:
            self._pause_reading_when_full()
        else:
            self._serve_next()

    # -- used by handlers ------------------------------------------------------------------------

    @property
    def closing(self) -> bool:
        """Whether nothing more can be sent to this client."""
        return self._closing

    @property
    def write_paused(self) -> bool:
        """Whether the write buffer is full because the client reads too slowly."""
        return self._write_paused

    @property
    def deadlines(self) -> Deadlines:
        """Deadlines of the requests of this listener."""
        return self._owner.deadlines

    def last_mile_ms(self, now_mono_ms: float) -> float:
        """Return the smoothed round trip to this client, at most 500 ms old."""
        if now_mono_ms >= self._last_mile_until_mono_ms:
            self._last_mile_ms = last_mile_ms(self.transport)
            self._last_mile_until_mono_ms = now_mono_ms + _LAST_MILE_HOLDS_MS
        return self._last_mile_ms

    def write(self, data: bytes) -> None:
        """Send bytes unchanged; dropped if the client has disconnected."""
        if self.transport is not None and not self._closing:
            self.transport.write(data)

    def flow_from(self, source: Drainable | None) -> None:
        """Pause ``source`` while this client reads too slowly."""
        self._source = source
        if source is not None and self._write_paused:
            source.pause()

    def respond(self, request: Request, status: int, headers: list[Header], body: bytes) -> None:
        """Send a whole response, and close the connection afterwards if it cannot be reused.

        The request's own ``answer_headers`` are added.
        """
        keep_alive = self.may_keep_alive(request)
        head_only = request.method == "HEAD"
        answer = self._with_own_headers(request, headers, keep_alive=keep_alive)
        self.write(whole_response(status, answer, body, keep_alive=keep_alive, head_only=head_only))

    def begin_stream(
        self, request: Request, status: int, headers: list[Header], first: bytes = b""
    ) -> None:
        """Send the head of a stream and its first piece, in one write.

        The request's own ``answer_headers`` and the framing are added: chunks, or for HTTP/1.0 a
        connection that closes at the stream's end. Source: RFC 9112, 6.3.
        """
        self._chunked = chunked = not request.http10
        if not chunked:
            request.keep_alive = False
        keep_alive = self.may_keep_alive(request)
        answer = self._with_own_headers(request, headers, keep_alive=keep_alive)
        if chunked:
            answer.append(_CHUNKED)
        data = response_head(status, answer, keep_alive=keep_alive)
        if first:
            data += chunk(first) if chunked else first
        self.write(data)

    def write_piece(self, data: bytes) -> None:
        """Send a piece of the stream, not empty; dropped when the client has disconnected. Hot."""
        transport = self.transport
        if transport is not None and not self._closing:
            transport.write(chunk(data) if self._chunked else data)

    def end_stream(self, last: bytes = b"") -> None:
        """Send the last piece, if there is one, and the end of the stream."""
        if self._chunked:
            self.write(chunk(last) + LAST_CHUNK if last else LAST_CHUNK)
        elif last:
            self.write(last)

    def may_keep_alive(self, request: Request) -> bool:
        """Whether this connection may carry another request after ``request``."""
        return request.keep_alive and not self._owner.draining and not self._closing

    def close(self) -> None:
        """Close when everything written has been sent, or at the deadline for reading it."""
        self._closing = True
        if self.transport is not None:
            self.transport.close()
            self.deadline_mono_ms = self._owner.now_mono_ms() + self._limits.idle_timeout_ms

    def close_when_idle(self) -> None:
        """Close now if no request is in progress, else after it."""
        if not self.serving:
            self.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._closing = True
        if self.transport is not None:
            self.transport.abort()

    def deadline_passed(self) -> None:
        """End a connection that was too slow: 408 within a request, no answer between two."""
        self.deadline_mono_ms = float("inf")
        self._owner.timed_out += 1
        if self._closing:
            self.abort()
        elif self._reader.within_request:
            self._refuse(RequestTimeout("the request did not arrive in time"))
        else:
            self.close()

    # -- inside ----------------------------------------------------------------------------------

    def _with_own_headers(
        self, request: Request, headers: list[Header], *, keep_alive: bool
    ) -> list[Header]:
        answer = headers + request.answer_headers()
        if keep_alive and request.http10:
            answer.append(KEEP_ALIVE)
        return answer

    def _pause_reading_when_full(self) -> None:
        if len(self._queue) >= MAX_PIPELINED - 1 and self.transport is not None:
            self._read_paused = True
            self.transport.pause_reading()

    def _refuse(self, error: EdgeForgeError) -> None:
        """Answer a request that cannot be read further, and close; later bytes are dropped."""
        if self.serving:
            self.abort()
            return
        owner, reader = self._owner, self._reader
        status, headers, body = owner.render_error(error, reader.path)
        if trace_id := owner.make_trace_id():
            headers.extend(id_headers(trace_id))
        if owner.cors_headers is not None and (origin := reader.header(b"origin")):
            headers.extend(owner.cors_headers(origin))
        self.write(whole_response(status, headers, body, keep_alive=False))
        self._close_gently()

    def _close_gently(self) -> None:
        """Close after an answer that was sent before the request's end.

        The kernel resets a connection that is closed with unread bytes, and the answer may be
        lost. Therefore further bytes are read and dropped, for at most ``_LINGER_MS``.
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
        """Serve ``request`` and later ones, one at a time; a task for each would cost 5 us more.

        Cancelled when the client disconnects.
        """
        loop = asyncio.get_running_loop()
        while True:
            self._in_handler = True
            try:
                await self._handler(request, self)
            except asyncio.CancelledError:
                self.abort()
                raise
            except Exception:
                _log.exception("request failed path=%r", request.path)
                self.abort()
            finally:
                self.flow_from(None)
                self.serving = self._in_handler = False
                self._owner.count_busy(-1)
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

    def _wait_for_next(self) -> None:
        limit_ms = self._limits.idle_timeout_ms
        if self._reader.within_request:
            limit_ms = self._limits.header_timeout_ms
        self.deadline_mono_ms = self._owner.now_mono_ms() + limit_ms
