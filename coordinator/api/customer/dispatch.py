"""Serves routes: who asks, how often, what; then the handler; then its answer, checked headers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from aiohttp import web

from coordinator.api.customer.reading import body_of, params_of, query_of
from coordinator.api.customer.route import Call, Download, StreamedDownload
from coordinator.api.http_protocol import HttpConnection
from coordinator.operations.use_case import may_of, not_allowed

if TYPE_CHECKING:
    from pydantic import BaseModel

    from coordinator.api.customer.access import ApiAccess
    from coordinator.api.customer.route import Route, Services
    from coordinator.operations.actor import Actor
    from coordinator.operations.acts import Act

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
#: How long a client may leave a chunk of a download unread.
_WRITE_TIMEOUT_S = 30.0

_log = logging.getLogger(__name__)


def handler_of(
    route: Route, services: Services, access: ApiAccess
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return what aiohttp calls for a route."""

    async def serve(request: web.Request) -> web.StreamResponse:
        access.check_source(request)
        actor = None
        if route.act is not None:
            actor = access.actor_of(request)
            _check_may(actor, route.act)  # before anything is read or looked up
        params, body = params_of(request, route), await body_of(request, route)
        if actor is not None and body is not None:
            # the body may have taken seconds, in which a token ends and a member gets another role
            actor = access.still(request)
            _check_may(actor, route.act)
        call = Call(services, request.remote or "", actor, params, body, query_of(request, route))
        with _served(request, known=actor is not None):
            answer = await route.handler(call)
            if isinstance(answer, StreamedDownload):
                with access.download(call.actor):
                    return await _streamed(request, answer)
            return _response(route, answer)

    return serve


def _check_may(actor: Actor, act: Act | None) -> None:
    """Raises: Forbidden."""
    if act is not None and act not in may_of(actor):
        raise not_allowed(actor, act)


@contextlib.contextmanager
def _served(request: web.Request, *, known: bool) -> Iterator[None]:
    """Keep the connection of a request that has arrived from being ended for another one.

    Not before: who sends a body slowly would hold its place for nothing.
    """
    connection = request.protocol
    assert isinstance(connection, HttpConnection)
    connection.set_busy(busy=True, known=known)
    try:
        yield
    finally:
        connection.set_busy(busy=False, known=known)


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


async def _streamed(request: web.Request, answer: StreamedDownload) -> web.StreamResponse:
    """Send chunk by chunk; a client that does not read, or a fault, cuts the connection."""
    response = web.StreamResponse(headers=_headers_of(answer))
    await response.prepare(request)
    try:
        async for chunk in answer.chunks:
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                await response.write(chunk)
        await response.write_eof()
    except Exception as error:
        _log.warning("download cut path=%s: %s", request.path, error)
        if request.transport is not None:
            request.transport.abort()
    return response


def _headers_of(answer: Download | StreamedDownload) -> dict[str, str]:
    return {
        "Content-Type": answer.content_type,
        "Content-Disposition": f'attachment; filename="{answer.file_name}"',
    }


def _response(route: Route, answer: BaseModel | Download | None) -> web.Response:
    if answer is None:
        return web.Response(status=route.status)
    if isinstance(answer, Download):
        return web.Response(
            status=route.status,
            body=answer.content,
            headers=_headers_of(answer),
        )
    return web.Response(
        status=route.status,
        body=answer.model_dump_json().encode(),
        content_type="application/json",
    )
