"""The client port: generation goes to the relay, everything else to aiohttp, on one connection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from agent.formats import FORMATS
from agent.formats.registry import render_error
from agent.gateway.app import make_app
from agent.gateway.handler import GenerationHandler
from agent.gateway.tls import ClientCertificate
from agent.relay.connections import ConnectionSet, ServerLimits
from agent.relay.listener import Listener

if TYPE_CHECKING:
    import asyncio

    from agent.config import ClientConfig
    from agent.core.samples import Samples
    from agent.gateway.context import GatewayContext
    from agent.gateway.targets import EnginePools
    from agent.relay.messages import Request
    from agent.relay.server import ServerConnection


class ClientPort:
    """Where customers arrive."""

    def __init__(self, config: ClientConfig, around: GatewayContext, pools: EnginePools) -> None:
        self._config = config
        self.handler = GenerationHandler(around, pools)
        limits = ServerLimits(
            max_header_bytes=config.max_header_bytes,
            max_body_bytes=config.max_body_bytes,
            header_timeout_ms=config.header_timeout_ms,
            body_timeout_ms=config.body_timeout_ms,
            idle_timeout_ms=config.idle_timeout_ms,
            buffer_bytes=around.limits.client_buffer_bytes,
            max_connections=config.max_connections,
        )
        self.connections = ConnectionSet(self._serve, render_error, limits, around.now_mono_ms)
        self._listener = Listener("client.port", self.connections)
        self._certificate: ClientCertificate | None = None
        self._runner = web.AppRunner(make_app(around), access_log=None, keepalive_timeout=0)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._listener.port

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield the figures of clients' connections."""
        yield from self.connections.samples("edgeforge_client_connections")

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return how many clients' connections are open."""
        return {"connections": len(self.connections.live)}

    async def start(self) -> None:
        """Listen. Raises: ConfigInvalid for a port in use or a bad certificate."""
        config = self._config
        if config.cert_file:
            self._certificate = ClientCertificate(Path(config.cert_file), Path(config.key_file))
        await self._runner.setup()
        tls = self._certificate.context if self._certificate is not None else None
        await self._listener.start(config.host, config.port, tls)

    def reload_certificate(self) -> bool:
        """Take a renewed certificate from disk; False when there was nothing to take."""
        return self._certificate is not None and self._certificate.reload()

    def reload_certificate_if_changed(self) -> bool:
        """Like ``reload_certificate``, when the files have changed."""
        return self._certificate is not None and self._certificate.reload_if_changed()

    def set_draining(self, draining: bool) -> None:
        """Refuse new requests with 503, or take them again; the port stays open."""
        self.handler.draining = draining

    async def drain(self, grace_ms: float) -> None:
        """Refuse new requests and let running ones end."""
        self.set_draining(True)
        await self._listener.drain(grace_ms)

    async def stop(self) -> None:
        await self._listener.stop()
        await self._runner.cleanup()

    async def _serve(self, request: Request, client: ServerConnection) -> None:
        if request.path in FORMATS and request.method == "POST":
            request.last_mile_ms = client.last_mile_ms(request.first_byte_mono_ms)
            await self.handler.serve(request, client)
            return
        server = self._runner.server
        assert server is not None
        successor: asyncio.Protocol = server()
        client.hand_off(request, successor)
