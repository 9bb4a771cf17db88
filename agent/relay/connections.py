"""All connections of one listener: limits, counters, deadlines, drain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from agent.core.samples import Sample, Samples
from agent.relay.deadlines import Deadlines

if TYPE_CHECKING:
    from agent.relay.limits import ServerLimits
    from agent.relay.messages import Header
    from protos.domain.errors import EdgeForgeError

#: Status, headers and body of a response.
Answer = tuple[int, list["Header"], bytes]
#: Turns an error, and the path of its request, into a response.
ErrorRenderer = Callable[["EdgeForgeError", str], Answer]
#: Admits a connection when it is made, for example by its certificate. Raises to refuse.
Gate = Callable[[asyncio.BaseTransport], object]
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
    """

    def __init__(
        self,
        render_error: ErrorRenderer,
        limits: ServerLimits,
        now_mono_ms: Callable[[], float],
        gate: Gate | None = None,
        make_trace_id: Callable[[], str] = _no_trace_id,
        cors_headers: CorsHeaders | None = None,
    ) -> None:
        self.render_error = render_error
        self.limits = limits
        self.now_mono_ms = now_mono_ms
        self.gate = gate
        self.make_trace_id = make_trace_id
        self.cors_headers = cors_headers
        #: Deadlines of the requests in progress.
        self.deadlines = Deadlines(now_mono_ms)
        self.live: set[Connection] = set()
        self.draining = False
        #: Connections that are serving a request.
        self.busy = 0
        self._idle = asyncio.Event()
        self.accepted = 0
        self.refused = 0
        self.timed_out = 0

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
        yield Sample(f"{prefix}_accepted", "Connections accepted.", self.accepted, counter=True)
        yield Sample(
            f"{prefix}_refused", "Connections refused over the limit.", self.refused, counter=True
        )
        yield Sample(
            f"{prefix}_timed_out",
            "Connections closed for being too slow or idle.",
            self.timed_out,
            counter=True,
        )
