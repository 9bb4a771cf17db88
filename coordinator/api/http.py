"""The HTTP listener: GET only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
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

    from protos.domain.price_card import PriceCard

#: No route takes a body.
_MAX_BODY_BYTES = 1_024
_CARD_MAX_AGE_S = 60
_PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class HttpParts:
    """The dependencies of the listener."""

    #: Returns what is missing before agents and operators can be served; empty: ready.
    missing: Callable[[], Sequence[str]]
    #: Returns the price card in force, and the next one if it is published.
    card: Callable[[], tuple[PriceCard, PriceCard | None]]
    now_unix_ms: Callable[[], int]
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
        app.router.add_get("/pricing", self._pricing)
        for path in ("/pricing.json", "/v1/prices"):
            app.router.add_get(path, self._prices_json)
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

    async def _pricing(self, request: web.Request) -> web.Response:
        """Answer a program that asks for JSON with it, everybody else with the page."""
        accepted = request.headers.get("Accept", "")
        wants_json = "application/json" in accepted and "text/html" not in accepted
        answer = await (self._prices_json if wants_json else self._prices_page)(request)
        answer.headers["Vary"] = "Accept"
        return answer

    async def _prices_json(self, request: web.Request) -> web.Response:
        return self._cached(request, card_json(*self._parts.card()), "application/json", {})

    async def _prices_page(self, request: web.Request) -> web.Response:
        body = card_html(*self._parts.card()).encode()
        policy = {"Content-Security-Policy": _PAGE_POLICY}
        return self._cached(request, body, "text/html", policy)

    def _cached(
        self, request: web.Request, body: bytes, content_type: str, headers: dict[str, str]
    ) -> web.Response:
        """Return ``body``, or 304 to who has it, to be kept no longer than its card is in force."""
        _, upcoming = self._parts.card()
        max_age_s = _CARD_MAX_AGE_S
        if upcoming is not None:
            left_s = (upcoming.valid_from_unix_ms - self._parts.now_unix_ms()) // 1_000
            max_age_s = max(0, min(max_age_s, left_s))
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {
            **_CARD_HEADERS,
            **headers,
            "Cache-Control": f"public, max-age={max_age_s}",
            "ETag": tag,
        }
        if tag in (one.strip() for one in request.headers.get("If-None-Match", "").split(",")):
            return web.Response(status=304, headers=headers)
        charset = "utf-8" if content_type == "text/html" else None
        return web.Response(body=body, content_type=content_type, charset=charset, headers=headers)


_CARD_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "X-Content-Type-Options": "nosniff",
}
