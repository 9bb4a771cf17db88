"""One request sent upstream for one client, and its response as it comes.

Driven by the event loop's callbacks: no task waits for it. What is done with the response is the
subclass's.
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

    #: The whole response is here.
    COMPLETE = "complete"
    #: No connection, a cut one, or a response that cannot be read.
    LOST = "lost"
    #: It was cut here.
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
        self.ending: Ending | None = None
        self.reason = ""
        #: Whether the client has been sent a part of it: from then on it slows the upstream down.
        self.started = False

    # -- what users call

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
        """Cut it; an engine takes that as "client gone" and stops generating."""
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
        """Take in what one read brought; the end of the response comes with the last of them.

        The connection is given back only here, when all bytes of the read have been seen: bytes
        behind a response must never be taken for the next one.
        """
        if self.ending is not None:
            return
        self._on_read()
        if self._complete and self.ending is None:
            self._on_response_end()

    def on_complete(self) -> None:
        self._complete = True

    def on_lost(self, reason: str, *, answered: bool) -> None:
        if self.ending is not None:
            return
        pool = self._pool
        if self._reused and not answered and not self.status and pool is not None:
            # a connection that the other side had closed meanwhile; on a new one it is asked again
            self._reused, self._connection = False, None
            self._join_line(pool)
            return
        self._end(Ending.LOST, reason)

    # -- what subclasses do

    @abstractmethod
    def _on_read(self) -> None:
        """Take ``_gathered``, which one read brought; it may be empty."""

    @abstractmethod
    def _on_response_end(self) -> None:
        """Call ``_end``: the response is whole."""

    @abstractmethod
    def _ended(self) -> None:
        """Called once, when ``ending`` has been set to other than ``ABORTED``."""

    def _take_client(self) -> None:
        """From here on the client gets this response, and slows it down by reading slowly."""
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
            # it left the line; an error that came too late concerns nobody
            turn.cancelled() or turn.exception()
            return
        self._turn = None
        if turn.cancelled():
            self._end(Ending.LOST, "no connection")
        elif (error := turn.exception()) is not None:
            self._end(Ending.LOST, error.message if isinstance(error, LinkDown) else repr(error))
        else:
            self._send(turn.result())


def is_event_stream(headers: list[Header]) -> bool:
    """Whether a response announces events rather than one whole body."""
    return any(
        name == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in headers
    )
