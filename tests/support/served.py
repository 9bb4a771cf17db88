"""The relay's server side on a real port, with the test's limits and handler."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

from agent.clock import now_mono_ms
from agent.core.body_budget import BodyBudget
from agent.gateway.client_routes import render_refusal
from agent.relay.connections import ConnectionSet, CorsHeaders, HeadGate
from agent.relay.limits import ServerLimits
from agent.relay.listener import Listener
from agent.relay.messages import Request
from agent.relay.server import ServerConnection
from agent.trace_ids import TraceIds

LIMITS = ServerLimits(
    max_header_bytes=2_048,
    max_body_bytes=4_096,
    header_timeout_ms=60_000.0,
    body_timeout_ms=60_000.0,
    idle_timeout_ms=60_000.0,
    buffer_bytes=65_536,
    max_connections=64,
)


@dataclass
class Served:
    """A port, and the connections made to it."""

    connections: ConnectionSet
    port: int
    bodies: BodyBudget | None = None

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def talk(self, data: bytes) -> bytes:
        """Send ``data`` on a connection of its own and return all that comes until its end."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            return await asyncio.wait_for(_read_all(reader), 20)
        finally:
            writer.close()


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(65_536):
            parts.append(part)
    return b"".join(parts)


async def echo(request: Request, client: ServerConnection) -> None:
    """Answer with the request's target and body."""
    said = b"%b %b" % (request.target, request.body)
    client.respond(request, 200, [], said)


@contextlib.asynccontextmanager
async def served(
    handler: Callable[[Request, ServerConnection], Awaitable[None]] = echo,
    *,
    cors_headers: CorsHeaders | None = None,
    admit_head: HeadGate | None = None,
    bodies: BodyBudget | None = None,
    **limits: float,
) -> AsyncIterator[Served]:
    """Serve ``handler``; ``limits`` replace fields of ``LIMITS``."""
    connections = ConnectionSet(
        render_refusal,
        replace(LIMITS, **limits),
        now_mono_ms,
        make_trace_id=TraceIds().make,
        cors_headers=cors_headers,
        admit_head=admit_head,
        bodies=bodies,
    )
    listener = Listener("client.port", connections, handler)
    await listener.start("127.0.0.1", 0, None)
    try:
        yield Served(connections, listener.port, bodies)
    finally:
        await listener.stop()
