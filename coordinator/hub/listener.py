"""The hub's listener: HTTP or HTTPS, for the keys of accounts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from coordinator import clock
from coordinator.api.http_protocol import HttpConnections, count_as_busy, without_banner
from coordinator.api.listener import Listener
from coordinator.hub.access import Access
from coordinator.hub.bodies import readable
from coordinator.hub.errors import translated
from coordinator.hub.read_routes import ReadRoutes
from coordinator.hub.repositories import Repositories
from coordinator.hub.write_routes import WriteRoutes
from protos.domain.errors import NotFound

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from coordinator.hub.catalogue import Catalogue
    from coordinator.operations.member_secrets import MemberLogins
    from protos.domain.customers import ApiKey

#: Of a body that is read whole: names and samples of 256 files.
_MAX_BODY_BYTES = 2 * 1024**2


@dataclass(frozen=True, slots=True)
class HubParts:
    """The dependencies of the listener."""

    catalogue: Catalogue
    #: SHA-256 of the whole key -> key
    keys: Callable[[], Mapping[bytes, ApiKey]]
    #: Signs the addresses of uploads.
    secret: bytes = field(repr=False)
    #: Tokens of members, who do what their role allows; None: API keys only.
    logins: MemberLogins | None = None
    #: Origin that clients are told to upload to; empty: the one that they asked.
    advertise: str = ""
    #: None: plain HTTP.
    tls: ssl.SSLContext | None = None


class HubListener(Listener):
    """Listens on one address. Made, started and closed by ``main``."""

    def __init__(self, parts: HubParts, host: str, port: int, *, max_connections: int) -> None:
        self._parts = parts
        connections = HttpConnections(max_connections)
        app = self._make_app(connections)
        super().__init__("hub", app, connections, host, port, tls=parts.tls)

    def _make_app(self, connections: HttpConnections) -> web.Application:
        parts = self._parts
        access = Access(
            parts.keys, parts.secret, clock.now_mono_ms, clock.now_unix_ms, parts.logins
        )
        repositories = Repositories(parts.catalogue)
        app = web.Application(
            client_max_size=_MAX_BODY_BYTES,
            middlewares=[count_as_busy, translated(connections.log_rate), readable],
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
