"""A listening socket and its connections: opened, swept, drained, closed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from typing import TYPE_CHECKING

from agent.relay.server import ServerConnection
from agent.tasks import Background
from protos.domain.errors import ConfigInvalid

if TYPE_CHECKING:
    import ssl

    from agent.relay.connections import ConnectionSet
    from agent.relay.server import Handler

_BACKLOG = 4_096
_SWEEP_S = 0.25


class Listener:
    """One port."""

    def __init__(self, name: str, connections: ConnectionSet, handler: Handler) -> None:
        self._name = name
        self.connections = connections
        self._handler = handler
        self._server: asyncio.Server | None = None
        self._background = Background(max_tasks=4)
        self.port = 0

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        """Listen. Raises: ConfigInvalid when the address cannot be used."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: ServerConnection(self.connections, self._handler),
                host,
                port,
                ssl=tls,
                backlog=_BACKLOG,
                ssl_handshake_timeout=10.0 if tls is not None else None,
            )
        except OSError as error:
            raise ConfigInvalid([_listen_problem(self._name, host, port, error)]) from error
        self.port = self._server.sockets[0].getsockname()[1]
        self._background.spawn(self._sweep(), name=f"{self._name}-sweep")

    async def drain(self, grace_ms: float) -> None:
        """Accept no more connections, and let running requests end for at most ``grace_ms``."""
        if self._server is not None:
            self._server.close()
        self.connections.drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.connections.wait_idle(), grace_ms / 1_000)

    async def stop(self) -> None:
        """Close the port and cut the remaining connections."""
        if self._server is not None:
            self._server.close()
        self.connections.abort()
        await self._background.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            self.connections.sweep()


def _listen_problem(name: str, host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{name}: {host}:{port} is in use; stop what uses it or choose another port"
    return f"{name}: cannot listen on {host}:{port}: {error.strerror or error}"
