"""An aiohttp application on a port of its own, with a limit of connections."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from coordinator.api.http_protocol import HttpConnection
from protos.domain.errors import ConfigInvalid

if TYPE_CHECKING:
    import ssl

    from coordinator.api.http_protocol import HttpConnections

#: Longest that running requests may take after a stop.
_STOP_TIMEOUT_S = 2.0
_HANDSHAKE_TIMEOUT_S = 10.0


class Listener:
    """Listens on one address; ``section`` of the configuration names it in errors."""

    def __init__(
        self,
        section: str,
        app: web.Application,
        connections: HttpConnections,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._section = section
        self._connections = connections
        self._host = host
        self._port = port
        self._tls = tls
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_TIMEOUT_S)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises: ConfigInvalid when the address is taken."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                self._protocol,
                self._host,
                self._port,
                ssl=self._tls,
                ssl_handshake_timeout=_HANDSHAKE_TIMEOUT_S if self._tls else None,
            )
        except OSError as error:
            raise ConfigInvalid(
                [
                    f"{self._section}: cannot listen on {self._host} port {self._port}:"
                    f" {error.strerror}"
                ],
                "stop what holds the port, or choose another one",
            ) from error

    @property
    def port(self) -> int:
        """The port that is open."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and end what runs."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def _protocol(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        return HttpConnection(self._connections, server, asyncio.get_running_loop())
