"""Serves ``/livez``, ``/readyz`` and ``/metrics`` on a port for this host only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from agent.clock import now_mono_ms
from agent.relay.surface import Surface, json_answer

if TYPE_CHECKING:
    from agent.relay.connections import Answer
    from agent.relay.messages import Request


class MetricsServer:
    """``missing`` returns what keeps this agent from being ready; empty when it is ready."""

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, missing: Callable[[], list[str]]
    ) -> None:
        self._host = host
        self._port = port
        self._registry = registry
        self._missing = missing
        routes = {
            "/livez": ("GET", self._livez),
            "/readyz": ("GET", self._readyz),
            "/metrics": ("GET", self._metrics),
        }
        self._surface = Surface("metrics.port", routes, now_mono_ms)

    @property
    def port(self) -> int:
        """The port that is open."""
        return self._surface.listener.port

    async def start(self) -> None:
        """Listen. Raises: ConfigInvalid for a port in use."""
        await self._surface.listener.start(self._host, self._port, None)

    async def stop(self) -> None:
        await self._surface.stop()

    def _livez(self, _request: Request) -> Answer:
        return json_answer({"live": True})

    def _readyz(self, _request: Request) -> Answer:
        missing = self._missing()
        return json_answer({"ready": not missing, "missing": missing}, 503 if missing else 200)

    def _metrics(self, _request: Request) -> Answer:
        content_type = (b"content-type", CONTENT_TYPE_LATEST.encode())
        return 200, [content_type], generate_latest(self._registry)
