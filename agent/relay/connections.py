"""All connections of one listener: limits, counters, deadlines, drain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from agent.core.samples import Sample, Samples
from agent.relay.deadlines import Deadlines
from protos.domain.connection_shares import ConnectionShares
from protos.domain.errors import EdgeForgeError, Overloaded
from protos.domain.log_rate import LogRate

if TYPE_CHECKING:
    from agent.core.body_budget import BodyBudget
    from agent.relay.limits import ServerLimits
    from agent.relay.messages import Header, Request
    from protos.domain.connection_shares import Place

#: Status, headers and body of a response.
Answer = tuple[int, list["Header"], bytes]
#: Turns an error, and the path of its request, into a response.
ErrorRenderer = Callable[["EdgeForgeError", str], Answer]
#: Admits a connection when it is made, for example by its certificate. Raises to refuse.
Gate = Callable[[asyncio.BaseTransport], object]
#: Decides by a request's head, and the connection's context, whether its body may come: returns how
#: many bytes of it, and writes who holds them to ``body_owner``. Raises to refuse.
HeadGate = Callable[["Request", object], int]
#: Returns the headers that a browser needs on every response to the given ``Origin``.
CorsHeaders = Callable[[bytes], tuple["Header", ...]]


class Connection(Protocol):
    """What ``ConnectionSet`` needs of each connection."""

    deadline_mono_ms: float
    #: What the gate returned for it.
    context: object

    def deadline_passed(self) -> None:
        """Act on a deadline that has passed."""

    def close_when_idle(self) -> None:
        """Close now, or after the request in progress."""

    def abort(self) -> None:
        """Cut the connection."""


def _no_trace_id() -> str:
    return ""


class ConnectionSet:
    """All connections of one listener: counted, swept for deadlines, drained.

    ``make_trace_id`` makes each request's id, which responses carry; without it they have none.
    ``bodies`` limits the bytes of bodies in memory, of this listener and of others.
    """

    def __init__(
        self,
        render_error: ErrorRenderer,
        limits: ServerLimits,
        now_mono_ms: Callable[[], float],
        gate: Gate | None = None,
        make_trace_id: Callable[[], str] = _no_trace_id,
        cors_headers: CorsHeaders | None = None,
        admit_head: HeadGate | None = None,
        bodies: BodyBudget | None = None,
    ) -> None:
        self.render_error = render_error
        self.limits = limits
        self.now_mono_ms = now_mono_ms
        self.gate = gate
        self.make_trace_id = make_trace_id
        self.cors_headers = cors_headers
        self.admit_head = admit_head
        self._bodies = bodies
        #: The places of this port; one is taken at accept.
        self.shares = ConnectionShares(limits.max_connections, limits.strangers_part)
        #: Deadlines of the requests in progress.
        self.deadlines = Deadlines(now_mono_ms)
        self.live: set[Connection] = set()
        self._by_place: dict[Place, Connection] = {}
        self.draining = False
        #: Connections that are serving a request.
        self.busy = 0
        self._idle = asyncio.Event()
        self.accepted = 0
        self.refused = 0
        self.timed_out = 0
        #: For lines that strangers cause.
        self.log_rate = LogRate()
        #: How often nothing was accepted because no descriptor was left.
        self.exhausted = 0

    def enter(self, connection: Connection, place: Place) -> None:
        """Add a connection that is open."""
        self.live.add(connection)
        self._by_place[place] = connection

    def leave(self, place: Place) -> None:
        """Give back the place of a connection that has ended or was never opened."""
        self.shares.leave(place)
        connection = self._by_place.pop(place, None)
        if connection is not None:
            self.live.discard(connection)

    def end(self, place: Place) -> bool:
        """Cut the connection that has this place; False if it is not open."""
        connection = self._by_place.get(place)
        if connection is not None:
            connection.abort()
        return connection is not None

    def hold(self, request: Request, size_bytes: int) -> None:
        """Count bytes of a body that arrives, until ``let_go``. Raises: Overloaded. Hot."""
        if self._bodies is None:
            return
        if not self._bodies.take(request.body_owner, size_bytes):
            raise Overloaded("too many bytes of requests are in progress here", retry_after_s=1.0)
        request.held_bytes += size_bytes

    def let_go(self, request: Request) -> None:
        """Stop counting the request's body: it has been served, or is gone. Hot."""
        if request.held_bytes and self._bodies is not None:
            self._bodies.give_back(request.body_owner, request.held_bytes)
            request.held_bytes = 0

    def sweep(self) -> None:
        """Act on connections whose deadline has passed; call a few times a second."""
        now = self.now_mono_ms()
        for connection in [one for one in self.live if one.deadline_mono_ms <= now]:
            connection.deadline_passed()

    def drain(self) -> None:
        """Close idle connections now and the others after their request."""
        self.draining = True
        for connection in list(self.live):
            connection.close_when_idle()

    async def wait_idle(self) -> None:
        """Wait until no connection serves a request."""
        while self.busy:
            self._idle.clear()
            await self._idle.wait()

    def count_busy(self, change: int) -> None:
        """Count a connection that starts (1) or ends (-1) serving a request."""
        self.busy += change
        if not self.busy:
            self._idle.set()

    def abort(self) -> None:
        """Cut all connections."""
        for connection in list(self.live):
            connection.abort()

    def samples(self, prefix: str) -> Samples:
        """Yield open, accepted, refused and timed-out connections, their names after ``prefix``."""
        yield Sample(prefix, "Connections open.", float(len(self.live)))
        yield Sample(
            f"{prefix}_unknown",
            "Connections open that have not shown a valid key or certificate.",
            float(self.shares.strangers),
        )
        yield Sample(
            f"{prefix}_evicted",
            "Idle connections ended because others came.",
            self.shares.evicted,
            counter=True,
        )
        yield Sample(f"{prefix}_accepted", "Connections accepted.", self.accepted, counter=True)
        yield Sample(
            f"{prefix}_refused", "Connections refused over the limit.", self.refused, counter=True
        )
        yield Sample(
            f"{prefix}_exhausted",
            "Times when nothing was accepted for a moment because no descriptor was left.",
            self.exhausted,
            counter=True,
        )
        yield Sample(
            f"{prefix}_timed_out",
            "Connections closed for being too slow or idle.",
            self.timed_out,
            counter=True,
        )
