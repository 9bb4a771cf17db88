"""A listening socket and its connections: counted at accept, opened, swept, drained, closed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from functools import partial
from typing import TYPE_CHECKING

from agent.relay.server import ServerConnection
from agent.tasks import Background
from protos.domain.connection_shares import source_group
from protos.domain.errors import ConfigInvalid

if TYPE_CHECKING:
    import ssl

    from agent.relay.connections import ConnectionSet
    from agent.relay.server import Handler
    from protos.domain.connection_shares import Place

_log = logging.getLogger(__name__)

_BACKLOG = 4_096
_SWEEP_S = 0.25
_HANDSHAKE_TIMEOUT_S = 10.0
#: Connections accepted before the event loop does anything else, about 1 ms.
_ACCEPTED_AT_ONCE = 64
#: How long nothing is accepted after the process or the host had no descriptor or memory left.
_PAUSE_S = 0.25
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Listener:
    """One port, or one Unix socket."""

    def __init__(self, name: str, connections: ConnectionSet, handler: Handler) -> None:
        self._name = name
        self.connections = connections
        self._handler = handler
        self._sockets: list[socket.socket] = []
        self._tls: ssl.SSLContext | None = None
        self._background = Background(max_tasks=4)
        #: Connections being opened: the TLS handshake.
        self._opening: dict[Place, asyncio.Task[bool]] = {}
        self.port = 0

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        """Listen. Raises: ConfigInvalid when the address cannot be used."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, _, _, _, address in dict.fromkeys(found):
                self._sockets.append(_listening(family, address))
        except OSError as error:
            self._close_sockets()
            raise ConfigInvalid([_listen_problem(self._name, host, port, error)]) from error
        self.port = self._sockets[0].getsockname()[1]
        self._begin(tls)

    def start_unix(self, path: str) -> None:
        """Listen on a Unix socket for this user only. Raises: OSError."""
        before = os.umask(0o177)
        try:
            self._sockets.append(_listening(socket.AF_UNIX, path))
        finally:
            os.umask(before)
        self._begin(None)

    async def drain(self, grace_ms: float) -> None:
        """Accept no more connections, and let running requests end for at most ``grace_ms``."""
        self._close_sockets()
        self.connections.drain()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.connections.wait_idle(), grace_ms / 1_000)

    async def stop(self) -> None:
        """Close the port and cut the remaining connections."""
        self._close_sockets()
        self.connections.abort()
        opening = list(self._opening.values())
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        await self._background.close()

    # -- accepting -------------------------------------------------------------------------------

    def _begin(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._accept_from_all()
        self._background.spawn(self._sweep(), name=f"{self._name}-sweep")

    def _accept_from_all(self) -> None:
        loop = asyncio.get_running_loop()
        for listening in self._sockets:
            loop.add_reader(listening.fileno(), self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        """Accept some connections; who may stay is decided before their TLS handshake."""
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
            self._admit(accepted, address)

    def _admit(self, accepted: socket.socket, address: object) -> None:
        connections = self.connections
        connections.accepted += 1
        host = address[0] if isinstance(address, tuple) else ""
        now_mono_ms = connections.now_mono_ms()
        admission = connections.shares.admit(source_group(host), now_mono_ms)
        evicted = admission.evicted
        if evicted is not None and not connections.end(evicted) and evicted in self._opening:
            self._opening[evicted].cancel()
        place = admission.place
        if place is None:
            connections.refused += 1
            accepted.close()
            return
        accepted.setblocking(False)
        opening = asyncio.get_running_loop().create_task(self._open_connection(accepted, place))
        self._opening[place] = opening
        # Not a part of the task: one that is cancelled before its first step does nothing at all.
        opening.add_done_callback(partial(self._opened, accepted, place))

    def _opened(self, accepted: socket.socket, place: Place, opening: asyncio.Task[bool]) -> None:
        """Give back what a connection holds that was not opened."""
        del self._opening[place]
        if opening.cancelled() or opening.exception() is not None or not opening.result():
            self.connections.leave(place)
            accepted.close()

    async def _open_connection(self, accepted: socket.socket, place: Place) -> bool:
        """Make the connection's protocol, after its TLS handshake; return whether it is open."""

        def make() -> ServerConnection:
            return ServerConnection(self.connections, self._handler, place)

        timeout_s = _HANDSHAKE_TIMEOUT_S if self._tls is not None else None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                make, accepted, ssl=self._tls, ssl_handshake_timeout=timeout_s
            )
        except (OSError, TimeoutError, EOFError) as error:
            _log.debug("connection not opened port=%s reason=%r", self._name, error)
            return False
        return True

    def _pause(self, error: OSError) -> None:
        """Accept nothing for a moment: no descriptor is left, and asking again at once would spin.

        Connections wait in the kernel meanwhile.
        """
        self.connections.exhausted += 1
        now_mono_ms = self.connections.now_mono_ms()
        if (left_out := self.connections.log_rate.take("exhausted", now_mono_ms)) is not None:
            text = "nothing is accepted for a moment port=%s reason=%s left_out=%d"
            _log.warning(text, self._name, error, left_out)
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

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            self.connections.sweep()


def _listening(family: int, address: object) -> socket.socket:
    """Return a socket that listens. Raises: OSError."""
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
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


def _listen_problem(name: str, host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{name}: {host}:{port} is in use; stop what uses it or choose another port"
    return f"{name}: cannot listen on {host}:{port}: {error.strerror or error}"
