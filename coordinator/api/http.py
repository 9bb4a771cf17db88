"""The HTTP listener: GET only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from coordinator.api.http_protocol import (
    HttpConnection,
    HttpConnections,
    count_as_busy,
    without_banner,
)
from coordinator.api.price_page import card_html, card_json
from protos.domain.errors import ConfigInvalid

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from protos.domain.resources import Price

#: No route takes a body.
_MAX_BODY_BYTES = 1_024
#: Longest that running requests may take after a stop.
_STOP_TIMEOUT_S = 2.0
_CARD_MAX_AGE_S = 60
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class HttpParts:
    """The dependencies of the listener."""

    #: Returns what is missing before agents and operators can be served; empty: ready.
    missing: Callable[[], Sequence[str]]
    prices: Callable[[], Iterable[Price]]
    metrics: CollectorRegistry


class HttpListener:
    """Listens on one address. Made, started and closed by ``main``."""

    def __init__(self, parts: HttpParts, host: str, port: int, *, max_connections: int) -> None:
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
            self._server = await loop.create_server(self._protocol, self._host, self._port)
        except OSError as error:
            raise ConfigInvalid(
                [f"http: cannot listen on {self._host} port {self._port}: {error.strerror}"],
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
        app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[count_as_busy])
        app.on_response_prepare.append(without_banner)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/v1/prices", self._prices_json)
        app.router.add_get("/prices", self._prices_page)
        return app

    async def _livez(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        missing = list(self._parts.missing())
        return web.Response(
            body=orjson.dumps({"ready": not missing, "missing": missing}),
            status=503 if missing else 200,
            content_type="application/json",
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        text = generate_latest(self._parts.metrics)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _prices_json(self, request: web.Request) -> web.Response:
        return web.Response(
            body=card_json(self._parts.prices()),
            content_type="application/json",
            headers=_CARD_HEADERS,
        )

    async def _prices_page(self, request: web.Request) -> web.Response:
        return web.Response(
            text=card_html(self._parts.prices()),
            content_type="text/html",
            headers={**_CARD_HEADERS, "Content-Security-Policy": _PAGE_POLICY},
        )


_CARD_HEADERS = {
    "Cache-Control": f"public, max-age={_CARD_MAX_AGE_S}",
    "Access-Control-Allow-Origin": "*",
    "X-Content-Type-Options": "nosniff",
}
