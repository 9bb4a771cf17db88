"""The hub's listener: HTTP or HTTPS, for the keys of accounts."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from coordinator import clock
from coordinator.api.http_protocol import (
    HttpConnection,
    HttpConnections,
    count_as_busy,
    without_banner,
)
from coordinator.hub.access import Access
from coordinator.hub.bodies import readable
from coordinator.hub.errors import translated
from coordinator.hub.read_routes import ReadRoutes
from coordinator.hub.repositories import Repositories
from coordinator.hub.write_routes import WriteRoutes
from protos.domain.errors import ConfigInvalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from coordinator.hub.catalogue import Catalogue
    from protos.domain.resources import ApiKey

#: Of a body that is read whole: names and samples of 256 files.
_MAX_BODY_BYTES = 2 * 1024**2
#: Longest that running requests may take after a stop.
_STOP_TIMEOUT_S = 2.0
_HANDSHAKE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class HubParts:
    """The dependencies of the listener."""

    catalogue: Catalogue
    #: SHA-256 of the whole key -> key
    keys: Callable[[], Mapping[bytes, ApiKey]]
    #: Signs the addresses of uploads.
    secret: bytes
    #: Origin that clients are told to upload to; empty: the one that they asked.
    advertise: str = ""
    #: None: plain HTTP.
    tls: ssl.SSLContext | None = None


class HubListener:
    """Listens on one address. Made, started and closed by ``main``."""

    def __init__(self, parts: HubParts, host: str, port: int, *, max_connections: int) -> None:
        self._parts = parts
        self._host = host
        self._port = port
        self._connections = HttpConnections(max_connections)
        self._runner = web.AppRunner(
            self._make_app(), access_log=None, shutdown_timeout=_STOP_TIMEOUT_S
        )
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
                ssl=self._parts.tls,
                ssl_handshake_timeout=_HANDSHAKE_TIMEOUT_S if self._parts.tls else None,
            )
        except OSError as error:
            raise ConfigInvalid(
                [f"hub: cannot listen on {self._host} port {self._port}: {error.strerror}"],
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

    def _make_app(self) -> web.Application:
        parts = self._parts
        access = Access(parts.keys, parts.secret, clock.now_mono_ms, clock.now_unix_ms)
        repositories = Repositories(parts.catalogue)
        app = web.Application(
            client_max_size=_MAX_BODY_BYTES,
            middlewares=[count_as_busy, translated(self._connections.log_rate), readable],
        )
        app.on_response_prepare.append(without_banner)
        ReadRoutes(access, repositories, parts.catalogue).add_to(app.router)
        WriteRoutes(
            access,
            repositories,
            parts.catalogue,
            advertise=parts.advertise,
            now_unix_ms=clock.now_unix_ms,
        ).add_to(app.router)

        async def nothing(request: web.Request) -> web.Response:
            access.actor_of(request)
            raise NotFound("there is nothing at this address", code="RepoNotFound")

        app.router.add_route("*", "/{path:.*}", nothing)
        return app


def tls_of_pair(key_pem: bytes, chain_pem: bytes) -> ssl.SSLContext:
    """Return a server's context of a key that is kept in memory otherwise."""
    with tempfile.TemporaryDirectory(prefix="edgeforge-hub-") as folder:
        path = Path(folder) / "pair.pem"
        path.touch(0o600)
        path.write_bytes(key_pem + chain_pem)
        return tls_of_files(path, path)


def tls_of_files(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a server's context. Raises: ConfigInvalid when the files hold no pair."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigInvalid(
            [f"hub: {certificate} and {key} hold no certificate and key: {error}"]
        ) from error
    return context
