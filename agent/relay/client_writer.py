"""What is sent to one client: whole responses, streams in pieces, and back-pressure."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from agent.relay.messages import (
    KEEP_ALIVE,
    LAST_CHUNK,
    Header,
    Request,
    chunk,
    response_head,
    whole_response,
)

if TYPE_CHECKING:
    from agent.relay.connections import ConnectionSet

#: How often it is looked whether a slow client has taken the end of its answer.
_LOOK_AGAIN_MS = 250.0
_CHUNKED: Header = (b"transfer-encoding", b"chunked")


class Drainable(Protocol):
    """A source that fills a connection's write buffer and pauses when it is full."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class ClientWriter(asyncio.Protocol):
    """The sending half of a client's connection."""

    def __init__(self, owner: ConnectionSet) -> None:
        self._owner = owner
        self._limits = owner.limits
        self.transport: asyncio.Transport | None = None
        self.deadline_mono_ms = float("inf")
        self._source: Drainable | None = None
        self._write_paused = False
        self._closing = False
        #: Whether the stream in progress is sent in chunks.
        self._chunked = True
        self._written_bytes = 0
        #: Who waits until so many bytes written have been sent, in order.
        self._awaited: deque[tuple[int, Callable[[bool], None]]] = deque()
        self._look_again = 0
        #: Whether the connection is to end once everything is sent.
        self._flushes = False

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._source is not None:
            self._source.pause()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._awaited:
            self._tell_sent()
        if self._source is not None:
            self._source.resume()

    @property
    def closing(self) -> bool:
        """Whether nothing more can be sent to this client."""
        return self._closing

    @property
    def write_paused(self) -> bool:
        """Whether the write buffer is full because the client reads too slowly."""
        return self._write_paused

    def when_sent(self, tell: Callable[[bool], None]) -> None:
        """Call ``tell`` once all that was written so far is the kernel's. Hot.

        With True; with False if the connection ends before. TLS may hold back up to 64 KiB more.
        """
        transport = self.transport
        if transport is None or self._closing:  # what was written was dropped
            tell(False)
            return
        self._awaited.append((self._written_bytes, tell))
        if transport.get_write_buffer_size() == 0:
            self._tell_sent()
        else:  # uvloop writes at the end of the event loop's turn
            asyncio.get_running_loop().call_soon(self._tell_sent)

    def _tell_sent(self) -> None:
        """Tell who waits for what has been sent; look again later for the rest."""
        awaited, transport = self._awaited, self.transport
        if not awaited or transport is None:
            return
        sent_bytes = self._written_bytes - transport.get_write_buffer_size()
        while awaited and awaited[0][0] <= sent_bytes:
            awaited.popleft()[1](True)
        deadlines = self._owner.deadlines
        deadlines.clear(self._look_again)
        if awaited:
            due_mono_ms = self._owner.now_mono_ms() + _LOOK_AGAIN_MS
            self._look_again = deadlines.set(due_mono_ms, self._tell_sent)

    def _tell_lost(self, exc: Exception | None) -> None:
        """The connection has ended: what was written before ``close`` has been sent."""
        self._owner.deadlines.clear(self._look_again)
        whole = exc is None and self._flushes
        while self._awaited:
            self._awaited.popleft()[1](whole)

    def write(self, data: bytes | bytearray) -> None:
        """Send bytes unchanged; dropped if the client has disconnected.

        The caller changes them no more: they may wait to be sent.
        """
        if self.transport is not None and not self._closing:
            self._written_bytes += len(data)
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
            if self._chunked:
                data = chunk(data)
            self._written_bytes += len(data)
            transport.write(data)

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
            self._flushes = True
            self.transport.close()
            self.deadline_mono_ms = self._owner.now_mono_ms() + self._limits.idle_timeout_ms

    def abort(self) -> None:
        """Cut the connection."""
        self._tell_sent()
        self._closing, self._flushes = True, False
        if self.transport is not None:
            self.transport.abort()

    def _with_own_headers(
        self, request: Request, headers: list[Header], *, keep_alive: bool
    ) -> list[Header]:
        answer = headers + request.answer_headers()
        if keep_alive and request.http10:
            answer.append(KEEP_ALIVE)
        return answer
