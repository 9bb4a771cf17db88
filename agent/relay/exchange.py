"""One request sent upstream for one client, and its response while it arrives.

Driven by the event loop's callbacks; no task waits for it. Subclasses handle the response.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from protos.domain.errors import LinkDown

if TYPE_CHECKING:
    import asyncio

    from agent.relay.messages import Header
    from agent.relay.server import ServerConnection
    from agent.relay.upstream import UpstreamConnection
    from agent.relay.upstream_pool import UpstreamPool


class Ending(enum.StrEnum):
    """How an exchange ended."""

    #: The whole response has arrived.
    COMPLETE = "complete"
    #: No connection, a cut one, or a response that cannot be read.
    LOST = "lost"
    #: This agent cut it.
    ABORTED = "aborted"


class Exchange(ABC):
    """Sends one request and receives its response; ``_ended`` is called once, at its end."""

    def __init__(self, client: ServerConnection, now_mono_ms: Callable[[], float]) -> None:
        self._client = client
        self._now_mono_ms = now_mono_ms
        self._pool: UpstreamPool | None = None
        self._request = b""
        self._connection: UpstreamConnection | None = None
        #: Whether the connection was kept open since an earlier request: it may be stale.
        self._reused = False
        self._turn: asyncio.Future[UpstreamConnection] | None = None
        self._complete = False
        self._gathered: list[bytes] = []
        self.status = 0
        self.headers: list[Header] = []
        #: Fields behind the body.
        self.trailers: list[Header] = []
        self.ending: Ending | None = None
        self.reason = ""
        #: Whether the client has been sent a part of it; from then on a slow client pauses it.
        self.started = False

    # -- called by users

    def start(self, pool: UpstreamPool, request: bytes) -> None:
        """Send ``request`` to ``pool``'s address."""
        self._pool, self._request = pool, request
        connection = pool.take_nowait()
        if connection is None:
            self._join_line(pool)
        else:
            self._reused = True
            self._send(connection)

    def abort(self) -> None:
        """Cut it; the engine sees a disconnected client and stops generating."""
        self._end(Ending.ABORTED, "")

    def fail(self, reason: str) -> None:
        """End it for ``reason``."""
        self._end(Ending.LOST, reason)

    # -- ResponseSink

    @abstractmethod
    def on_head(self, status: int, headers: list[Header]) -> None: ...

    def on_body(self, data: bytes) -> None:
        self._gathered.append(data)

    def on_read_end(self) -> None:
        """Process the bytes of one read, and the end of the response if it is complete.

        The connection is given back only here, after all bytes of the read were parsed: surplus
        bytes after a response must never be taken for the next response.
        """
        ending = self.ending  # not narrowed: what is called next may set it
        if ending is not None:
            return
        self._on_read()
        if self._complete and self.ending is None:
            self._on_response_end()

    def on_trailers(self, trailers: list[Header]) -> None:
        """Take the fields behind the body."""
        self.trailers = trailers

    def on_complete(self) -> None:
        self._complete = True

    def on_lost(self, reason: str, *, answered: bool) -> None:
        if self.ending is not None:
            return
        pool = self._pool
        if self._reused and not answered and not self.status and pool is not None:
            # The other side had closed the idle connection; the request is sent on a new one.
            self._reused, self._connection = False, None
            self._join_line(pool)
            return
        self._end(Ending.LOST, reason)

    # -- implemented by subclasses

    @abstractmethod
    def _on_read(self) -> None:
        """Process ``_gathered``, the body bytes of one read, which may be empty."""

    @abstractmethod
    def _on_response_end(self) -> None:
        """Handle the complete response; must call ``_end``."""

    @abstractmethod
    def _ended(self) -> None:
        """Called once, after ``ending`` was set, unless it is ``ABORTED``."""

    def _take_client(self) -> None:
        """Start sending to the client; from now on a slow client pauses the upstream."""
        self.started = True
        self._client.flow_from(self._connection)

    def _end(self, ending: Ending, reason: str) -> None:
        if self.ending is not None:
            return
        self.ending, self.reason = ending, reason
        if self.started:
            self._client.flow_from(None)
        connection, pool = self._connection, self._pool
        self._connection = None
        if self._turn is not None and pool is not None:
            turn, self._turn = self._turn, None
            pool.leave_line(turn)
        if connection is not None and pool is not None:
            if ending is Ending.COMPLETE:
                pool.give_back(connection)
            else:
                connection.abort()
        if ending is not Ending.ABORTED:
            self._ended()

    # -- inside

    def _send(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        if self.started:
            self._client.flow_from(connection)
        connection.send(self._request, self)

    def _join_line(self, pool: UpstreamPool) -> None:
        try:
            turn = self._turn = pool.join_line()
        except LinkDown as error:
            self._end(Ending.LOST, error.message)
            return
        turn.add_done_callback(self._on_turn)

    def _on_turn(self, turn: asyncio.Future[UpstreamConnection]) -> None:
        if turn is not self._turn:
            # It left the queue; read a late error, so that asyncio does not log it.
            turn.cancelled() or turn.exception()
            return
        self._turn = None
        if turn.cancelled():
            self._end(Ending.LOST, "no connection")
        elif (error := turn.exception()) is not None:
            self._end(Ending.LOST, error.message if isinstance(error, LinkDown) else repr(error))
        else:
            self._send(turn.result())


def head_problem(status: int, headers: list[Header], *, streams: bool) -> str:
    """Return why a response head is no answer to what was asked; empty if it is one.

    Errors may have any content type: their text is written anew for the client.
    """
    if 400 <= status < 600:
        return ""
    if status != 200:
        return f"unexpected status {status}"
    expected = b"text/event-stream" if streams else b"application/json"
    kinds = [value for name, value in headers if name == b"content-type"]
    if len(kinds) == 1:
        kind = kinds[0]
        if kind == expected or kind.partition(b";")[0].strip().lower() == expected:
            return ""
    given = b", ".join(kinds)[:80].decode("latin-1")
    return f"unexpected content type {given!r}, not {expected.decode()}"
