"""Serves routes: who asks, how often, what; then the handler; then its answer, checked headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from coordinator.api.customer.reading import body_of, params_of, query_of
from coordinator.api.customer.route import Call, Download

if TYPE_CHECKING:
    from pydantic import BaseModel

    from coordinator.api.customer.access import ApiAccess
    from coordinator.api.customer.route import Route, Services

#: What every answer carries; the API is no page, and no other site's page may read it.
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_HSTS = "max-age=31536000"


def handler_of(
    route: Route, services: Services, access: ApiAccess
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return what aiohttp calls for a route."""

    async def serve(request: web.Request) -> web.StreamResponse:
        access.check_source(request)
        actor = None if route.act is None else access.actor_of(request)
        call = Call(
            services,
            request.remote or "",
            actor,
            params_of(request, route),
            await body_of(request, route),
            query_of(request, route),
        )
        return _response(route, await route.handler(call))

    return serve


def with_security_headers(
    is_tls: bool,
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Return what adds the headers of every answer."""

    async def add(_request: web.Request, response: web.StreamResponse) -> None:
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        if is_tls:
            response.headers["Strict-Transport-Security"] = _HSTS

    return add


def _response(route: Route, answer: BaseModel | Download | None) -> web.Response:
    if answer is None:
        return web.Response(status=route.status)
    if isinstance(answer, Download):
        return web.Response(
            status=route.status,
            body=answer.content,
            headers={
                "Content-Type": answer.content_type,
                "Content-Disposition": f'attachment; filename="{answer.file_name}"',
            },
        )
    return web.Response(
        status=route.status,
        body=answer.model_dump_json().encode(),
        content_type="application/json",
    )
