"""Health and version for load balancers and clients; needs no key and discloses nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.relay.connections import Answer

_JSON = (b"content-type", b"application/json")
#: A proxy must not cache these answers.
_NO_STORE = (b"cache-control", b"no-store")
_RETRY_AFTER = (b"retry-after", b"1")


class Health:
    """Answers the health routes.

    ``/health`` and ``/ping`` have no body, as in vLLM; like ``/readyz`` they report whether new
    requests should be sent here. ``/livez`` reports that the process runs.
    """

    def __init__(self, ready: Callable[[], bool], version: str) -> None:
        self._ready = ready
        self._version = orjson.dumps({"version": version})
        self._routes: dict[str, Callable[[], Answer]] = {
            "/health": self._health,
            "/ping": self._health,
            "/readyz": self._readyz,
            "/livez": lambda: (200, [_JSON, _NO_STORE], b'{"live":true}'),
            "/version": lambda: (200, [_JSON, _NO_STORE], self._version),
        }

    def serves(self, path: str) -> bool:
        """Whether ``path`` is one of these routes."""
        return path in self._routes

    def answer(self, path: str) -> Answer:
        """Return the response of ``path``, one of these routes."""
        return self._routes[path]()

    def _health(self) -> Answer:
        if self._ready():
            return 200, [_NO_STORE], b""
        return 503, [_NO_STORE, _RETRY_AFTER], b""

    def _readyz(self) -> Answer:
        if self._ready():
            return 200, [_JSON, _NO_STORE], b'{"ready":true}'
        return 503, [_JSON, _NO_STORE, _RETRY_AFTER], b'{"ready":false}'
