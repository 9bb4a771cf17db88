"""A pool of connections to one address, with a queue of requests that wait for one."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable

from agent.relay.upstream import Address, UpstreamConnection, reason_of
from agent.tasks import Background
from protos.domain.errors import EdgeForgeError, LinkDown

_log = logging.getLogger(__name__)

#: Connections being made to one address at a time: concurrent handshakes delay one another. For a
#: distant node this also limits how fast a burst can open connections.
MAX_DIALS = 64
#: Requests that wait for a connection to one address.
MAX_IN_LINE = 1_024


class UpstreamPool:
    """Connections to one address: the most recently used first, idle ones bounded.

    A request that finds none idle waits in a queue for the next that is returned or made.
    """

    def __init__(
        self,
        address: Address,
        *,
        max_idle: int,
        connect_timeout_ms: float,
        tls: Callable[[], ssl.SSLContext] | None = None,
        spares: int = 0,
        refill: Callable[[], None] | None = None,
        connect: Callable[[UpstreamPool], Awaitable[UpstreamConnection]] | None = None,
        check: Callable[[asyncio.BaseTransport], None] | None = None,
    ) -> None:
        """``connect`` makes a connection in place of ``dial``.

        ``check`` raises EdgeForgeError for another side that must not be sent requests.
        """
        self.address = address
        self._check = check
        self._connect = connect
        self._spares = spares
        self._refill = refill
        self._max_idle = max_idle
        self._connect_timeout_ms = connect_timeout_ms
        self._tls = tls
        self._idle: list[UpstreamConnection] = []
        #: Fewest idle connections since ``close_unneeded``: this many were not needed.
        self._fewest_idle = 0
        self._line: deque[asyncio.Future[UpstreamConnection]] = deque()
        #: Twice the limit, because an ended task counts until the event loop's next iteration.
        self._background = Background(max_tasks=2 * MAX_DIALS)
        self._dialling = 0
        self._dialled = 0
        self._closed = False
        self.dials = 0

    @property
    def idle(self) -> int:
        """Idle connections."""
        return len(self._idle)

    @property
    def in_line(self) -> int:
        """Requests that wait for a connection."""
        return len(self._line)

    def take_nowait(self) -> UpstreamConnection | None:
        """Return an idle connection, or None.

        Calls ``refill`` if fewer than ``spares`` are left.
        """
        taken = None
        while self._idle and taken is None:
            connection = self._idle.pop()
            taken = connection if connection.reusable else None
        left = len(self._idle)
        if left < self._fewest_idle:
            self._fewest_idle = left
        if left < self._spares and self._refill is not None:
            self._refill()
        return taken

    def join_line(self) -> asyncio.Future[UpstreamConnection]:
        """Queue for a connection: one that is returned, or one made for the queue.

        The future ends with the connection, or with LinkDown naming the target and the reason; if
        no connection could be made, all futures in the queue end with it. The connect timeout
        counts from the start of each connection, so a long queue does not look like a dead target.
        Raises: LinkDown when the queue is full.
        """
        if len(self._line) >= MAX_IN_LINE:
            raise LinkDown(f"{self.address.name}: {MAX_IN_LINE} requests wait for a connection")
        turn: asyncio.Future[UpstreamConnection] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        self._dial_for_line()
        return turn

    def leave_line(self, turn: asyncio.Future[UpstreamConnection]) -> None:
        """Leave the queue; a connection that was handed over meanwhile goes back to the pool."""
        if turn in self._line:
            self._line.remove(turn)
        elif turn.done() and not turn.cancelled() and turn.exception() is None:
            self.give_back(turn.result())

    async def take(self) -> UpstreamConnection:
        """Wait in the queue for a connection. Raises: LinkDown as ``join_line``."""
        turn = self.join_line()
        try:
            return await turn
        except asyncio.CancelledError:
            self.leave_line(turn)
            raise

    async def dial(self) -> UpstreamConnection:
        """Open a connection. Raises: LinkDown naming the target and the reason."""
        loop = asyncio.get_running_loop()
        address = self.address
        self.dials += 1
        context = self._tls() if address.tls and self._tls is not None else None
        try:
            async with asyncio.timeout(self._connect_timeout_ms / 1_000):
                if address.uds_path is not None:
                    _, connection = await loop.create_unix_connection(self._make, address.uds_path)
                else:
                    transport, connection = await loop.create_connection(
                        self._make,
                        address.host,
                        address.port,
                        ssl=context,
                        server_hostname=address.server_name if context is not None else None,
                        local_addr=(address.source_address, 0) if address.source_address else None,
                    )
                    if self._check is not None:
                        self._check(transport)
        except TimeoutError as late:
            limit = f"{self._connect_timeout_ms:.0f} ms"
            raise LinkDown(f"{address.name}: no connection within {limit}") from late
        except EdgeForgeError as refusal:
            connection.abort()
            raise LinkDown(f"{address.name}: {refusal.message}") from refusal
        except (OSError, ssl.SSLError) as error:
            raise LinkDown(f"{address.name}: {reason_of(error)}") from error
        return connection

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep ``connection`` for the next request, or close it."""
        if connection.reusable:
            if self._line and self._hand(connection):
                return
            if not self._closed and len(self._idle) < self._max_idle:
                self._idle.append(connection)
                return
        if not connection.closed:
            connection.abort()

    def close_unneeded(self, keep: int) -> None:
        """Close idle connections not needed since the last call, except ``keep`` of them."""
        unneeded = max(0, min(self._fewest_idle, len(self._idle)) - keep)
        longest_unused, self._idle = self._idle[:unneeded], self._idle[unneeded:]
        self._fewest_idle = len(self._idle)
        for connection in longest_unused:
            connection.abort()

    def close(self) -> None:
        """Close idle connections; those in use, or waited for, end with their request."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.abort()

    def _dial_for_line(self) -> None:
        """Make as many connections at a time as requests wait, up to the limit."""
        while self._dialling < min(len(self._line), MAX_DIALS):
            self._dialling += 1
            self._background.spawn(self._dial_while_needed(), name=f"dial-{self.address.name}")

    async def _dial_while_needed(self) -> None:
        """Make connections one after the other, while more requests wait than are being made."""
        try:
            while len(self._line) >= self._dialling:
                await self._dial_once()
        finally:
            self._dialling -= 1

    async def _dial_once(self) -> None:
        dialled_before = self._dialled
        try:
            connection = await (self.dial() if self._connect is None else self._connect(self))
        except LinkDown as down:
            self._refuse(down.message, dialled_before)
        except Exception as error:
            _log.exception("fault while connecting to %s", self.address.name)
            self._refuse(f"{self.address.name}: {reason_of(error)}", dialled_before)
        else:
            self._dialled += 1
            self.give_back(connection)

    def _hand(self, connection: UpstreamConnection) -> bool:
        """Give ``connection`` to the first in the queue; False if no request waits any more."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(connection)
                return True
        return False

    def _refuse(self, reason: str, dialled_before: int) -> None:
        """Fail all in the queue with ``reason``; only the first if others connected meanwhile."""
        alone = self._dialled > dialled_before
        for _ in range(min(1, len(self._line)) if alone else len(self._line)):
            turn = self._line.popleft()
            if not turn.done():
                turn.set_exception(LinkDown(reason))

    def _make(self) -> UpstreamConnection:
        return UpstreamConnection(self._forget)

    def _forget(self, connection: UpstreamConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
