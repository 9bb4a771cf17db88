"""The listener of the customers' API: HTTP or HTTPS, for the tokens of members."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from coordinator import clock
from coordinator.api.customer.access import DEFAULT_RATES, ApiAccess, Rates
from coordinator.api.customer.dispatch import handler_of, with_security_headers
from coordinator.api.customer.openapi import document
from coordinator.api.customer.problems import answered, refusal
from coordinator.api.customer.reading import MAX_BODY_BYTES, read_limited
from coordinator.api.customer.table import ROUTES
from coordinator.api.http_protocol import HttpConnections, without_banner
from coordinator.api.listener import Listener
from protos.build_info import build_info

if TYPE_CHECKING:
    import ssl

    from coordinator.api.customer.route import Services
    from coordinator.operations.member_secrets import MemberLogins

#: What the payment provider is told to post its events to.
WEBHOOK_PATH = "/webhooks/payments"
_SIGNATURE = "Stripe-Signature"
_MAX_SIGNATURE_CHARS = 2_000
MAX_EVENT_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class ApiParts:
    """The dependencies of the listener."""

    services: Services
    logins: MemberLogins
    #: None: plain HTTP.
    tls: ssl.SSLContext | None = None
    rates: Rates = DEFAULT_RATES
    #: Takes the body and the signature of a payment provider's webhook; None: there is none.
    payment_event: Callable[[bytes, str], Awaitable[None]] | None = None


class ApiListener(Listener):
    """Listens on one address. Made, started and closed by ``main``."""

    def __init__(self, parts: ApiParts, host: str, port: int, *, max_connections: int) -> None:
        self._parts = parts
        self.access = ApiAccess(parts.logins, clock.now_mono_ms, parts.rates)
        app = self._make_app(connections := HttpConnections(max_connections, refusal))
        super().__init__("api", app, connections, host, port, tls=parts.tls)

    @property
    def services(self) -> Services:
        """What its handlers act on."""
        return self._parts.services

    async def close(self) -> None:
        """Stop listening, end what runs, imports too."""
        await super().close()
        await self._parts.services.imports.close()

    def _make_app(self, connections: HttpConnections) -> web.Application:
        services = self._parts.services
        app = web.Application(
            client_max_size=MAX_BODY_BYTES,
            middlewares=[answered(connections.log_rate)],
        )
        app.on_response_prepare.append(without_banner)
        app.on_response_prepare.append(with_security_headers(self._parts.tls is not None))
        described = orjson.dumps(document(ROUTES, build_info().version, server=services.endpoint))

        async def describe(request: web.Request) -> web.Response:
            self.access.check_source(request)
            return web.Response(body=described, content_type="application/json")

        app.router.add_get("/openapi.json", describe, allow_head=False)
        for route in ROUTES:
            serve = handler_of(route, services, self.access)
            app.router.add_route(route.method, route.path, serve)
        if self._parts.payment_event is not None:
            app.router.add_post(WEBHOOK_PATH, self._payment_event)
        return app

    async def _payment_event(self, request: web.Request) -> web.Response:
        """Take a webhook of the payment provider, which signs it."""
        assert self._parts.payment_event is not None
        self.access.check_source(request)
        payload = await read_limited(request, MAX_EVENT_BYTES)
        signature = request.headers.get(_SIGNATURE, "")[:_MAX_SIGNATURE_CHARS]
        await self._parts.payment_event(payload, signature)
        return web.Response(status=204)
