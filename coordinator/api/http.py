"""The HTTP listener: GET only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from coordinator.api.http_protocol import HttpConnections, count_as_busy, without_banner
from coordinator.api.listener import Listener
from coordinator.api.price_page import card_html, card_json

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from protos.domain.resources import Price

#: No route takes a body.
_MAX_BODY_BYTES = 1_024
_CARD_MAX_AGE_S = 60
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class HttpParts:
    """The dependencies of the listener."""

    #: Returns what is missing before agents and operators can be served; empty: ready.
    missing: Callable[[], Sequence[str]]
    prices: Callable[[], Iterable[Price]]
    metrics: CollectorRegistry


class HttpListener(Listener):
    """Listens on one address. Made, started and closed by ``main``."""

    def __init__(self, parts: HttpParts, host: str, port: int, *, max_connections: int) -> None:
        self._parts = parts
        super().__init__("http", self._make_app(), HttpConnections(max_connections), host, port)

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
