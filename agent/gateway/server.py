"""The client port: where customers' requests arrive and are served."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from agent.formats import FORMATS
from agent.gateway.client_routes import ClientRoutes, render_refusal
from agent.gateway.cors import Cors
from agent.gateway.handler import GenerationHandler
from agent.gateway.head_gate import HeadGate
from agent.gateway.health import Health
from agent.gateway.stats import GatewayStats
from agent.gateway.tls import ClientCertificate
from agent.relay.connections import ConnectionSet
from agent.relay.limits import ServerLimits
from agent.relay.listener import Listener
from protos.domain.errors import NoReplica

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.config import ClientConfig
    from agent.core.body_budget import BodyBudget
    from agent.core.samples import Samples
    from agent.gateway.context import GatewayContext
    from agent.relay.messages import Request
    from agent.relay.server import ServerConnection

_log = logging.getLogger(__name__)

#: Time for the last bytes to reach the clients of requests that a stop has cut.
_FLUSH_S = 0.5


class ClientPort:
    """The client port. ``ready`` returns whether the health routes report this agent as ready.

    ``bodies``: the limit of all bodies in memory, shared with the peer port.
    """

    def __init__(
        self,
        config: ClientConfig,
        gateway: GatewayContext,
        ready: Callable[[], bool],
        version: str,
        *,
        bodies: BodyBudget,
        max_connections: int,
    ) -> None:
        self._config = config
        self.handler = GenerationHandler(gateway, GatewayStats())
        limits = ServerLimits(
            max_header_bytes=config.max_header_bytes,
            max_body_bytes=config.max_body_bytes,
            header_timeout_ms=config.header_timeout_ms,
            body_timeout_ms=config.body_timeout_ms,
            idle_timeout_ms=config.idle_timeout_ms,
            buffer_bytes=gateway.limits.client_buffer_bytes,
            max_connections=max_connections,
        )
        self.connections = ConnectionSet(
            render_refusal,
            limits,
            gateway.now_mono_ms,
            make_trace_id=gateway.make_trace_id,
            cors_headers=Cors(config.cors_origins).headers_for if config.cors_origins else None,
            admit_head=HeadGate(gateway, config.max_body_bytes, self.handler.refused_by_head).admit,
            bodies=bodies,
        )
        self._listener = Listener("client.port", self.connections, self._serve)
        self._certificate: ClientCertificate | None = None
        self._routes = ClientRoutes(
            gateway, Health(ready, version), config.max_body_bytes, self.connections.hold
        )

    @property
    def port(self) -> int:
        """The port that is open."""
        return self._listener.port

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield the metrics of clients' connections."""
        yield from self.connections.samples("edgeforge_client_connections")

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return how many clients' connections are open."""
        return {"connections": len(self.connections.live)}

    async def start(self) -> None:
        """Open the port. Raises: ConfigInvalid for a port in use or a bad certificate."""
        config = self._config
        if config.cert_file:
            self._certificate = ClientCertificate(Path(config.cert_file), Path(config.key_file))
        tls = self._certificate.context if self._certificate is not None else None
        await self._listener.start(config.host, config.port, tls)

    def reload_certificate(self) -> bool:
        """Load a renewed certificate from disk; False if that failed, or without TLS."""
        return self._certificate is not None and self._certificate.reload()

    def reload_certificate_if_changed(self) -> bool:
        """Load the certificate if its files have changed; False if they have not."""
        return self._certificate is not None and self._certificate.reload_if_changed()

    def set_draining(self, draining: bool) -> None:
        """Refuse new requests with 503, or accept them again; the port stays open."""
        self.handler.draining = draining

    async def drain(self, grace_ms: float) -> None:
        """Refuse new requests and let running ones end; after ``grace_ms`` they get an error."""
        self.set_draining(True)
        await self._listener.drain(grace_ms)
        error = NoReplica("this site stops and its time to drain is over", "send the request again")
        cut = self.handler.cut_short(error)
        if not cut:
            return
        _log.warning("drain timed out requests_cut=%d after_ms=%.0f", cut, grace_ms)
        await asyncio.sleep(_FLUSH_S)

    async def stop(self) -> None:
        """Close the port and cut the remaining connections."""
        await self._listener.stop()

    def _serve(self, request: Request, client: ServerConnection) -> Awaitable[None]:
        """Hot for a generation whose path is spelled as usual and whose body is not compressed."""
        api = FORMATS.get(request.path)
        if api is None or request.method != "POST" or b"content-encoding" in request.headers:
            return self._serve_unusual(request, client)
        request.last_mile_ms = client.last_mile_ms(request.first_byte_mono_ms)
        return self.handler.serve(api, request, client)

    async def _serve_unusual(self, request: Request, client: ServerConnection) -> None:
        answer = await self._routes.answer(request)
        if answer is not None:
            client.respond(request, *answer)
            return
        request.last_mile_ms = client.last_mile_ms(request.first_byte_mono_ms)
        await self.handler.serve(FORMATS[request.path], request, client)
