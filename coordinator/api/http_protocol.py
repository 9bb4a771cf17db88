"""One HTTP connection: counted at accept; refusals without a banner or the library's texts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp import web

from coordinator import clock
from protos.domain.connection_shares import ConnectionShares, Place, source_group
from protos.domain.log_rate import LogRate

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)

_MAX_LINE_BYTES = 4_096
_MAX_FIELD_BYTES = 8_190
_KEEP_ALIVE_S = 15.0
_REFUSALS = {400: "the request cannot be read\n", 500: "this is a fault of the coordinator\n"}


def _plain_refusal(status: int) -> tuple[str, str]:
    return _REFUSALS[500 if status >= 500 else 400], "text/plain"


class HttpConnections:
    """All connections of one listener. ``refusal``: body and type for what cannot be read."""

    def __init__(self, limit: int, refusal: Callable[[int], tuple[str, str]] | None = None) -> None:
        self.refusal = refusal or _plain_refusal
        self.shares = ConnectionShares(limit)
        self.log_rate = LogRate()
        #: What ends each of them: its TLS handshake at first.
        self._ends: dict[Place, Callable[[], object]] = {}

    def admit(self, host: str) -> Place | None:
        """Return the place of a new connection; None: it must be closed."""
        now_mono_ms = clock.now_mono_ms()
        admission = self.shares.admit(source_group(host), now_mono_ms)
        end = self._ends.pop(admission.evicted, None) if admission.evicted else None
        if end is not None:
            end()
        place = admission.place
        if place is None and (left_out := self.log_rate.take("limit", now_mono_ms)) is not None:
            limit = self.shares.limit
            _log.warning("http connections at their limit limit=%d left_out=%d", limit, left_out)
        return place

    def ended_by(self, place: Place, end: Callable[[], object]) -> None:
        """Say how the connection of ``place`` is ended for another one."""
        if not place.gone:
            self._ends[place] = end

    def leave(self, place: Place) -> None:
        """Give back the place of a connection that has ended."""
        self.shares.leave(place)
        self._ends.pop(place, None)


class HttpConnection(web.RequestHandler):
    """aiohttp's connection, without what it says of itself and of a stranger's bytes."""

    def __init__(
        self,
        connections: HttpConnections,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        place: Place,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=_KEEP_ALIVE_S,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_FIELD_BYTES,
            lingering_time=0.0,
        )
        self._connections = connections
        self._place = place

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.ended_by(self._place, self.force_close)
        super().connection_made(transport)
        if self._place.gone:  # it has ended for another one during its TLS handshake
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.leave(self._place)
        super().connection_lost(exc)

    def set_busy(self, *, busy: bool, known: bool = True) -> None:
        """Note whether a request is served; such a connection is not ended for another one.

        ``known``: whoever sent it may hold a place that strangers may not.
        """
        place = self._place
        place.busy, place.idle_since_mono_ms = busy, clock.now_mono_ms()
        if known:
            self._connections.shares.show(place)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what cannot be read; its bytes are neither repeated nor logged."""
        if status >= 500:
            left_out = self._connections.log_rate.take("fault", clock.now_mono_ms())
            if left_out is not None:
                _log.error("request failed left_out=%d", left_out, exc_info=exc)
        text, content_type = self._connections.refusal(status)
        response = _Bare(status=status, text=text, content_type=content_type)
        response.force_close()
        return response


class _Bare(web.Response):
    """A response without aiohttp's name and version."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.pop("Server", None)


async def without_banner(_request: web.Request, response: web.StreamResponse) -> None:
    """Drop the header that names aiohttp and its version."""
    response.headers.pop("Server", None)


@web.middleware
async def count_as_busy(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Keep the connection of a request that is served from being ended for another one."""
    connection = request.protocol
    assert isinstance(connection, HttpConnection)
    connection.set_busy(busy=True)
    try:
        return await handler(request)
    finally:
        connection.set_busy(busy=False)
