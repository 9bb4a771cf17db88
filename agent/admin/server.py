"""The server of the administration socket, for ``edgeforge-agent status`` and ``drain``."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from agent.clock import now_mono_ms
from agent.relay.surface import Surface, json_answer
from protos.domain.errors import ConfigInvalid

if TYPE_CHECKING:
    from agent.relay.connections import Answer
    from agent.relay.messages import Request

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
        routes = {
            "/status": ("GET", self._get_status),
            "/requests": ("GET", self._get_requests),
            "/served": ("GET", self._get_served),
            "/drain": ("POST", self._drain),
            "/resume": ("POST", self._resume),
        }
        self._surface = Surface("admin.socket", routes, now_mono_ms)

    async def start(self) -> None:
        """Listen. Raises: ConfigInvalid when a socket cannot be made at the path."""
        if len(os.fsencode(self._path)) > MAX_SOCKET_PATH_BYTES:
            raise ConfigInvalid(
                [f"admin.socket: {self._path} is longer than {MAX_SOCKET_PATH_BYTES} bytes"],
                "set admin.socket to a shorter path",
            )
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._path.exists() and not self._path.is_socket():
            raise ConfigInvalid(
                [f"admin.socket: {self._path} is there, and no socket"],
                "set admin.socket to a path of its own: a socket of before would be deleted",
            )
        self._path.unlink(missing_ok=True)
        try:
            self._surface.listener.start_unix(str(self._path))
        except OSError as error:
            raise ConfigInvalid([f"admin.socket: {self._path}: {error.strerror}"]) from error

    async def stop(self) -> None:
        await self._surface.stop()
        self._path.unlink(missing_ok=True)

    def _get_status(self, _request: Request) -> Answer:
        return json_answer(self._status())

    def _get_requests(self, request: Request) -> Answer:
        limit = _limit(request)
        return json_answer({"requests": self._requests(limit)}) if limit else _bad_limit()

    def _get_served(self, request: Request) -> Answer:
        limit = _limit(request)
        return json_answer(self._served(limit)) if limit else _bad_limit()

    def _drain(self, _request: Request) -> Answer:
        self._set_draining(True)
        return json_answer(self._status())

    def _resume(self, _request: Request) -> Answer:
        self._set_draining(False)
        return json_answer(self._status())


def _limit(request: Request) -> int:
    """Return how many entries were asked for; 0 if that is not a valid number."""
    asked = parse_qs(request.target.partition(b"?")[2].decode("latin-1"))
    text = asked.get("limit", [str(_DEFAULT_REQUESTS)])[-1]
    return int(text) if text.isdecimal() and len(text) < 9 and int(text) <= _MAX_REQUESTS else 0


def _bad_limit() -> Answer:
    return json_answer({"error": f"limit must be a number from 1 to {_MAX_REQUESTS}"}, 400)
