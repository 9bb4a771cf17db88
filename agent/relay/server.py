"""One client's connection: one request at a time, deadlines, back-pressure, framing."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from agent.relay.client_writer import ClientWriter
from agent.relay.messages import Request, id_headers, whole_response
from agent.relay.reading import RequestReader
from agent.relay.tcp import last_mile_ms, peer_host, tune
from protos.domain.errors import EdgeForgeError, RequestTimeout, TooLarge

if TYPE_CHECKING:
    from agent.relay.connections import ConnectionSet
    from agent.relay.deadlines import Deadlines
    from protos.domain.connection_shares import Place

_log = logging.getLogger(__name__)

#: Requests that a client may send on one connection before the first is answered.
MAX_PIPELINED = 4
#: How long a refused client may take to read the refusal.
_LINGER_MS = 2_000.0
#: A measured round trip is reused for this time: the kernel smooths it anyway, and reading it costs
#: 6 us.
_LAST_MILE_HOLDS_MS = 500.0

#: Serves one request; cancelled when its client disconnects.
Handler = Callable[[Request, "ServerConnection"], Awaitable[None]]


class _Reading:
    """Told when a client has read. Implements ``Drainable``."""

    def __init__(self) -> None:
        self.resumed = asyncio.Event()

    def pause(self) -> None:
        self.resumed.clear()

    def resume(self) -> None:
        self.resumed.set()


class ServerConnection(ClientWriter):
    """One client's connection. ``place``: what it holds of the port's connections."""

    def __init__(self, owner: ConnectionSet, handler: Handler, place: Place) -> None:
        super().__init__(owner)
        self._handler = handler
        self._place = place
        #: What the gate returned for this connection, such as a peer's identity.
        self.context: object = None
        self.serving = False
        self._client_host = ""
        self._in_handler = False
        self._last_mile_ms = 0.0
        self._last_mile_until_mono_ms = float("-inf")
        self._reader = RequestReader(owner.limits, owner.now_mono_ms, self)
        self._queue: deque[Request] = deque()
        #: The request that is being served.
        self._current: Request | None = None
        #: Why the request after those in the queue is refused.
        self._refusal: EdgeForgeError | None = None
        #: Serves all requests of this connection; between two it waits for ``_next``.
        self._task: asyncio.Task[None] | None = None
        self._next: asyncio.Future[Request] | None = None
        self._read_paused = False

    # -- asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self.transport = transport
        owner = self._owner
        if self._place.gone or owner.draining:
            self._closing = True
            transport.abort()
            return
        if owner.gate is not None:
            try:
                self.context = owner.gate(transport)
            except EdgeForgeError as error:
                owner.refused += 1
                if (left_out := owner.log_rate.take("refused", owner.now_mono_ms())) is not None:
                    _log.warning("connection refused reason=%s left_out=%d", error, left_out)
                self._closing = True
                transport.abort()
                return
            owner.shares.show(self._place)
        owner.enter(self, self._place)
        self._client_host = peer_host(transport)
        tune(transport)
        transport.set_write_buffer_limits(high=self._limits.buffer_bytes)
        self.deadline_mono_ms = owner.now_mono_ms() + self._limits.header_timeout_ms

    def connection_lost(self, exc: Exception | None) -> None:
        owner = self._owner
        owner.leave(self._place)
        self._closing = True
        self._tell_lost(exc)
        self.deadline_mono_ms = float("inf")
        unread = self._reader.release()
        if unread is not None:
            owner.let_go(unread)
        while self._queue:
            owner.let_go(self._queue.popleft())
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        if self.serving and not self._in_handler:  # the handler has not begun and never will
            self.serving = False
            owner.count_busy(-1)
            if self._current is not None:
                owner.let_go(self._current)

    def eof_received(self) -> bool:
        """Treat a half-closed client as gone; a request in progress is aborted."""
        if self.transport is not None:
            self._tell_sent()
            self._flushes = False
            self.transport.abort()
        return False

    def data_received(self, data: bytes) -> None:
        if self._closing or self._refusal is not None:
            return
        try:
            self._reader.feed(data)
        except EdgeForgeError as error:
            self._refuse(error)

    # -- called by the reader --------------------------------------------------------------------

    def on_request_begin(self, now_mono_ms: float) -> None:
        if not self.serving:
            self.deadline_mono_ms = now_mono_ms + self._limits.header_timeout_ms

    def on_request_head(
        self, request: Request, now_mono_ms: float, *, expects_continue: bool
    ) -> int:
        """Decide by the head whether the body may come, and how large it may be. Hot."""
        owner = self._owner
        request.trace_id = owner.make_trace_id()
        request.client_host = self._client_host
        if owner.cors_headers is not None and (origin := request.headers.get(b"origin")):
            request.cors_headers = owner.cors_headers(origin)
        most_bytes = self._limits.max_body_bytes
        if owner.admit_head is not None:
            most_bytes = owner.admit_head(request, self.context)
        if request.body_owner and not self._place.known:
            owner.shares.show(self._place)
        if not self.serving:
            self._place.idle_since_mono_ms = now_mono_ms
            self.deadline_mono_ms = now_mono_ms + self._limits.body_timeout_ms
            if expects_continue:
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return most_bytes

    def on_body_bytes(self, request: Request, size_bytes: int) -> None:
        """Count bytes that arrive or are announced. Raises: Overloaded. Hot."""
        self._owner.hold(request, size_bytes)

    def on_request(self, request: Request) -> None:
        if len(self._queue) >= MAX_PIPELINED:
            self._owner.let_go(request)
            raise TooLarge("too many pipelined requests", "wait for an answer before the next")
        self._queue.append(request)
        if self.serving:
            self._pause_reading_when_full()
        else:
            self._serve_next()

    # -- used by handlers ------------------------------------------------------------------------

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

    def close_when_idle(self) -> None:
        """Close now if no request is in progress, else after it."""
        if not self.serving:
            self.close()

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

    def _pause_reading_when_full(self) -> None:
        if len(self._queue) >= MAX_PIPELINED - 1 and self.transport is not None:
            self._read_paused = True
            self.transport.pause_reading()

    def _refuse(self, error: EdgeForgeError) -> None:
        """Answer a request that cannot be read further, and close; later bytes are dropped."""
        owner, reader = self._owner, self._reader
        unread = reader.drop()
        if unread is not None:
            owner.let_go(unread)
        if len(self._queue) >= MAX_PIPELINED:
            self.abort()
            return
        if self.serving:  # the requests before it are answered first
            self._refusal = error
            return
        status, headers, body = owner.render_error(error, reader.path)
        trace_id = unread.trace_id if unread is not None else ""
        if trace_id := trace_id or owner.make_trace_id():
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
        self._closing = True
        self.deadline_mono_ms = self._owner.now_mono_ms() + _LINGER_MS
        transport = self.transport
        if transport is not None and transport.can_write_eof():  # TLS cannot
            transport.write_eof()

    def _serve_next(self) -> None:
        if self._closing or not self._queue:
            return
        request = self._current = self._queue.popleft()
        self.serving = self._place.busy = True
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
        owner = self._owner
        while True:
            self._in_handler = True
            try:
                await self._handler(request, self)
                if self._write_paused and not self._closing:
                    await self._until_read()
            except asyncio.CancelledError:
                self.abort()
                raise
            except Exception:
                _log.exception("request failed path=%r", request.path)
                self.abort()
            finally:
                self.flow_from(None)
                self.serving = self._in_handler = self._place.busy = False
                self._place.idle_since_mono_ms = owner.now_mono_ms()
                self._current = None
                owner.count_busy(-1)
                owner.let_go(request)
            if self._closing:
                return
            if not self.may_keep_alive(request):
                self.close()
                return
            if not self._place.known and owner.admit_head is None:
                owner.shares.show(self._place)
            self._next = loop.create_future()
            if self._queue:
                self._serve_next()
            elif self._refusal is not None:
                self._refuse(self._refusal)
                return
            else:
                self._wait_for_next()
            request = await self._next

    async def _until_read(self) -> None:
        """Serve nothing more to a client that does not read: its answers are kept in memory."""
        self.flow_from(reading := _Reading())
        try:
            async with asyncio.timeout(self._limits.idle_timeout_ms / 1_000):
                await reading.resumed.wait()
        except TimeoutError:
            self.abort()

    def _wait_for_next(self) -> None:
        within = self._reader.within_request
        limit_ms = self._limits.header_timeout_ms if within else self._limits.idle_timeout_ms
        self.deadline_mono_ms = self._owner.now_mono_ms() + limit_ms
