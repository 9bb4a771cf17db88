"""An aiohttp application on a port of its own, with a limit of connections.

They are counted at accept: before its TLS handshake a connection costs a stranger nothing, and the
coordinator a descriptor.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from coordinator import clock
from coordinator.api.http_protocol import HttpConnection
from protos.domain.errors import ConfigInvalid

if TYPE_CHECKING:
    import ssl

    from coordinator.api.http_protocol import HttpConnections
    from protos.domain.connection_shares import Place

_log = logging.getLogger(__name__)

#: Longest that running requests may take after a stop.
_STOP_TIMEOUT_S = 2.0
_HANDSHAKE_TIMEOUT_S = 10.0
_BACKLOG = 1_024
#: Connections accepted before the event loop does anything else.
_ACCEPTED_AT_ONCE = 64
#: How long nothing is accepted after the process or the host had no descriptor or memory left.
_PAUSE_S = 0.25
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """Listens on one address; ``section`` of the configuration names it in errors."""

    def __init__(
        self,
        section: str,
        app: web.Application,
        connections: HttpConnections,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._section = section
        self._connections = connections
        self._host = host
        self._port_asked = port
        self._tls = tls
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_TIMEOUT_S)
        self._sockets: list[socket.socket] = []
        #: Connections being opened: the TLS handshake.
        self._opening: set[asyncio.Task[bool]] = set()
        self._port = 0

    async def start(self) -> None:
        """Listen. Raises: ConfigInvalid when the address is taken."""
        await self._runner.setup()
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                self._host, self._port_asked, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, _, _, _, address in dict.fromkeys(found):
                self._sockets.append(_listening(family, address))
        except OSError as error:
            self._close_sockets()
            raise ConfigInvalid(
                [
                    f"{self._section}: cannot listen on {self._host} port {self._port_asked}:"
                    f" {error.strerror}"
                ],
                "stop what holds the port, or choose another one",
            ) from error
        self._port = int(self._sockets[0].getsockname()[1])
        self._accept_from_all()

    @property
    def port(self) -> int:
        """The port that is open."""
        assert self._port
        return self._port

    async def close(self) -> None:
        """Stop listening and end what runs."""
        self._close_sockets()
        for opening in self._opening:
            opening.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        await self._runner.cleanup()

    # -- accepting -------------------------------------------------------------------------------

    def _accept_from_all(self) -> None:
        loop = asyncio.get_running_loop()
        for listening in self._sockets:
            loop.add_reader(listening.fileno(), self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                accepted, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                continue  # the client has gone already
            self._admit(accepted, str(address[0]))

    def _admit(self, accepted: socket.socket, host: str) -> None:
        place = self._connections.admit(host)
        if place is None:
            accepted.close()
            return
        accepted.setblocking(False)
        opening = asyncio.get_running_loop().create_task(self._open(accepted, place))
        self._opening.add(opening)
        self._connections.ended_by(place, opening.cancel)
        # Not a part of the task: one that is cancelled before its first step does nothing at all.
        opening.add_done_callback(partial(self._opened, accepted, place))

    def _opened(self, accepted: socket.socket, place: Place, opening: asyncio.Task[bool]) -> None:
        self._opening.discard(opening)
        if opening.cancelled() or opening.exception() is not None or not opening.result():
            self._connections.leave(place)
            accepted.close()

    async def _open(self, accepted: socket.socket, place: Place) -> bool:
        """Make the connection's protocol, after its TLS handshake; return whether it is open."""
        loop, server = asyncio.get_running_loop(), self._runner.server
        assert server is not None
        make = partial(HttpConnection, self._connections, server, loop, place)
        timeout_s = _HANDSHAKE_TIMEOUT_S if self._tls is not None else None
        try:
            await loop.connect_accepted_socket(
                make, accepted, ssl=self._tls, ssl_handshake_timeout=timeout_s
            )
        except (OSError, TimeoutError, EOFError) as error:
            _log.debug("connection not opened port=%s reason=%r", self._section, error)
            return False
        return True

    def _pause(self, error: OSError) -> None:
        """Accept nothing for a moment: asking again at once would spin."""
        left_out = self._connections.log_rate.take("exhausted", clock.now_mono_ms())
        if left_out is not None:
            text = "nothing is accepted for a moment port=%s reason=%s left_out=%d"
            _log.warning(text, self._section, error, left_out)
        loop = asyncio.get_running_loop()
        for listening in self._sockets:
            loop.remove_reader(listening.fileno())
        loop.call_later(_PAUSE_S, self._accept_from_all)

    def _close_sockets(self) -> None:
        loop = asyncio.get_running_loop()
        for listening in self._sockets:
            loop.remove_reader(listening.fileno())
            listening.close()
        self._sockets.clear()


def _listening(family: int, address: object) -> socket.socket:
    """Return a socket that listens. Raises: OSError."""
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)  # type: ignore[arg-type]
        made.listen(_BACKLOG)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made
