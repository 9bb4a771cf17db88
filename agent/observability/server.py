"""Serves ``/livez``, ``/readyz`` and ``/metrics`` on a port for this host only."""

from __future__ import annotations

import errno
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from protos.domain.errors import ConfigInvalid


class MetricsServer:
    """``missing`` returns what keeps this agent from being ready; empty when it is ready."""

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, missing: Callable[[], list[str]]
    ) -> None:
        self._host = host
        self._port = port
        self._registry = registry
        self._missing = missing
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises: ConfigInvalid for a port in use."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            where = f"{self._host}:{self._port}"
            reason = "is in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
            raise ConfigInvalid(
                [f"metrics port: {where} {reason}"], "stop who holds it or set metrics.port"
            ) from error
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _readyz(self, _request: web.Request) -> web.Response:
        missing = self._missing()
        status = 503 if missing else 200
        return web.json_response({"ready": not missing, "missing": missing}, status=status)

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = generate_latest(self._registry)
        return web.Response(body=body, headers={"content-type": CONTENT_TYPE_LATEST})
