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
    """Answers status, recent requests, drain and resume."""

    def __init__(
        self,
        socket_path: Path,
        *,
        status: Callable[[], JsonObject],
        requests: Callable[[int], list[JsonObject]],
        set_draining: Callable[[bool], None],
    ) -> None:
        self._path = socket_path
        self._status = status
        self._requests = requests
        self._set_draining = set_draining
        app = web.Application()
        app.router.add_get("/status", self._get_status)
        app.router.add_get("/requests", self._get_requests)
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
        text = request.query.get("limit", str(_DEFAULT_REQUESTS))
        if not text.isdecimal() or not 0 < int(text) <= _MAX_REQUESTS:
            message = f"limit must be a number from 1 to {_MAX_REQUESTS}"
            return web.json_response({"error": message}, status=400)
        return web.json_response({"requests": self._requests(int(text))})

    async def _drain(self, _request: web.Request) -> web.Response:
        self._set_draining(True)
        return web.json_response(self._status())

    async def _resume(self, _request: web.Request) -> web.Response:
        self._set_draining(False)
        return web.json_response(self._status())
