"""The server of the administration socket, for ``edgeforge-agent status`` and ``drain``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from protos.domain.errors import ConfigInvalid

#: Longest path of a Unix socket. Source: unix(7), sun_path without its terminating zero.
MAX_SOCKET_PATH_BYTES = 107
_MAX_REQUESTS = 10_000
_DEFAULT_REQUESTS = 100

JsonObject = dict[str, object]


class AdminServer:
    """Answers status, recent requests, what was served for other agents, drain and resume."""

    def __init__(
        self,
        socket_path: Path,
        *,
        status: Callable[[], JsonObject],
        requests: Callable[[int], list[JsonObject]],
        served: Callable[[int], JsonObject],
        set_draining: Callable[[bool], None],
    ) -> None:
        self._path = socket_path
        self._status = status
        self._requests = requests
        self._served = served
        self._set_draining = set_draining
        app = web.Application()
        app.router.add_get("/status", self._get_status)
        app.router.add_get("/requests", self._get_requests)
        app.router.add_get("/served", self._get_served)
        app.router.add_post("/drain", self._drain)
        app.router.add_post("/resume", self._resume)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> None:
        """Listen. Raises: ConfigInvalid when a socket cannot be made at the path."""
        if len(os.fsencode(self._path)) > MAX_SOCKET_PATH_BYTES:
            raise ConfigInvalid(
                [f"admin.socket: {self._path} is longer than {MAX_SOCKET_PATH_BYTES} bytes"],
                "set admin.socket to a shorter path",
            )
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path.unlink(missing_ok=True)
        await self._runner.setup()
        before = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, str(self._path)).start()
        except OSError as error:
            raise ConfigInvalid([f"admin.socket: {self._path}: {error.strerror}"]) from error
        finally:
            os.umask(before)

    async def stop(self) -> None:
        await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    async def _get_status(self, _request: web.Request) -> web.Response:
        return web.json_response(self._status())

    async def _get_requests(self, request: web.Request) -> web.Response:
        limit = _limit(request)
        if limit == 0:
            return _bad_limit()
        return web.json_response({"requests": self._requests(limit)})

    async def _get_served(self, request: web.Request) -> web.Response:
        limit = _limit(request)
        return web.json_response(self._served(limit)) if limit else _bad_limit()

    async def _drain(self, _request: web.Request) -> web.Response:
        self._set_draining(True)
        return web.json_response(self._status())

    async def _resume(self, _request: web.Request) -> web.Response:
        self._set_draining(False)
        return web.json_response(self._status())


def _limit(request: web.Request) -> int:
    """Return how many entries were asked for; 0 if that is not a valid number."""
    text = request.query.get("limit", str(_DEFAULT_REQUESTS))
    return int(text) if text.isdecimal() and len(text) < 9 and int(text) <= _MAX_REQUESTS else 0


def _bad_limit() -> web.Response:
    message = f"limit must be a number from 1 to {_MAX_REQUESTS}"
    return web.json_response({"error": message}, status=400)
