"""All connections of one listener: their limits, their number, their deadlines, their end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.samples import Sample, Samples
from agent.relay.deadlines import Deadlines

if TYPE_CHECKING:
    from agent.relay.messages import Header, Request
    from agent.relay.server import ServerConnection
    from protos.domain.errors import EdgeForgeError


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one connection may cost."""

    max_header_bytes: int
    max_body_bytes: int
    header_timeout_ms: float
    body_timeout_ms: float
    idle_timeout_ms: float
    buffer_bytes: int
    max_connections: int


#: Serves one request; cancelled when its client goes away.
Handler = Callable[["Request", "ServerConnection"], Awaitable[None]]
#: Turns an error, and the path that was asked for, into a response: (status, headers, body).
ErrorRenderer = Callable[["EdgeForgeError", str], tuple[int, list["Header"], bytes]]
#: Admits a connection when it is made, for example by its certificate. Raises to refuse.
Gate = Callable[[asyncio.BaseTransport], object]


class ConnectionSet:
    """All connections of one listener: counted, swept for deadlines, drained."""

    def __init__(
        self,
        handler: Handler,
        render_error: ErrorRenderer,
        limits: ServerLimits,
        now_mono_ms: Callable[[], float],
        gate: Gate | None = None,
    ) -> None:
        self.handler = handler
        self.render_error = render_error
        self.limits = limits
        self.now_mono_ms = now_mono_ms
        self.gate = gate
        #: Deadlines of the requests in progress.
        self.deadlines = Deadlines(now_mono_ms)
        self.live: set[ServerConnection] = set()
        self.draining = False
        #: Connections that are serving a request.
        self.busy = 0
        self._idle = asyncio.Event()
        self.accepted = 0
        self.refused = 0
        self.timed_out = 0

    def sweep(self) -> None:
        """Close connections whose deadline has passed; call a few times a second."""
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
        """Called by a connection when it starts (1) and ends (-1) serving."""
        self.busy += change
        if not self.busy:
            self._idle.set()

    def abort(self) -> None:
        """Cut whatever is left."""
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
