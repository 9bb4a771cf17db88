"""A small HTTP surface for this host: fixed routes, answers made at once, no bodies.

The same parser and limits as on the ports of the data plane; refusals in this module's words.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import orjson

from agent.core.descriptors import SURFACE_CONNECTIONS
from agent.relay.connections import ConnectionSet
from agent.relay.limits import ServerLimits
from agent.relay.listener import Listener
from agent.relay.messages import Header, Request

if TYPE_CHECKING:
    from agent.relay.connections import Answer
    from agent.relay.server import ServerConnection
    from protos.domain.errors import EdgeForgeError

_log = logging.getLogger(__name__)

LIMITS = ServerLimits(
    max_header_bytes=16 * 1024,
    max_body_bytes=1_024,
    header_timeout_ms=10_000.0,
    body_timeout_ms=10_000.0,
    idle_timeout_ms=75_000.0,
    buffer_bytes=256 * 1024,
    max_connections=SURFACE_CONNECTIONS,
)
_JSON: Header = (b"content-type", b"application/json")

#: Makes the answer to one request.
Route = Callable[[Request], "Answer"]


class Surface:
    """``routes``: by path, the method (GET serves HEAD too) and what makes the answer."""

    def __init__(
        self,
        name: str,
        routes: Mapping[str, tuple[str, Route]],
        now_mono_ms: Callable[[], float],
    ) -> None:
        self._routes = routes
        self.connections = ConnectionSet(_render_error, LIMITS, now_mono_ms)
        self.listener = Listener(name, self.connections, self._serve)

    async def stop(self) -> None:
        """Close it."""
        await self.listener.stop()

    async def _serve(self, request: Request, client: ServerConnection) -> None:
        try:
            answer = self._answer(request)
        except Exception:
            _log.exception("request failed path=%r", request.path)
            answer = json_answer({"error": "this is a fault of the agent; see its log"}, 500)
        client.respond(request, *answer)

    def _answer(self, request: Request) -> Answer:
        found = self._routes.get(request.path)
        if found is None:
            return json_answer({"error": "unknown route", "routes": sorted(self._routes)}, 404)
        method, route = found
        if request.method == method or (method == "GET" and request.method == "HEAD"):
            return route(request)
        status, headers, body = json_answer({"error": f"use {method}"}, 405)
        return status, [*headers, (b"allow", method.encode())], body


def json_answer(value: object, status: int = 200) -> Answer:
    """Return ``value`` as a response."""
    return status, [_JSON], orjson.dumps(value)


def _render_error(error: EdgeForgeError, _path: str) -> Answer:
    return json_answer({"error": error.message}, error.http_status)
