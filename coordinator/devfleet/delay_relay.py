"""A relay that delays all bytes between the sites of a local fleet by their distances.

    python -m coordinator.devfleet.delay_relay CONFIG

One process for all links. Half a round trip each way, no jitter, order kept; a connection's first
byte leaves after the round trip of TCP's handshake. Bandwidth, loss and slow start are not
simulated. On its control socket it takes one JSON object a line, ``{"fault", "source",
"destination"}``, and answers ``{"ok"}`` or ``{"error"}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import struct
import sys
from pathlib import Path

from coordinator.clock import now_mono_ms
from coordinator.devfleet.delay_config import DelayConfig, Listener, load_delay_config
from coordinator.devfleet.delayed_connection import DelayedConnection
from coordinator.devfleet.exact_timer import ExactTimer
from coordinator.devfleet.link_faults import Fault, LinkFaults
from protos.domain.errors import EdgeForgeError
from protos.output.logs import log_to_stderr
from protos.output.terminal import print_error

_log = logging.getLogger("edgeforge.delay_relay")

_HOST = "127.0.0.1"
#: Connections at once; further ones are reset.
MAX_CONNECTIONS = 4_096
_BACKLOG = 1_024
_CONNECT_TIMEOUT_S = 10.0
_MAX_CONTROL_LINE_BYTES = 4_096
_EXIT_CONFIG = 78
#: SO_LINGER of 0 s: close with a reset.
_RESET = struct.pack("ii", 1, 0)


class DelayRelay:
    """All listeners, connections and faults of one fleet."""

    def __init__(self, config: DelayConfig) -> None:
        self._config = config
        self._faults = LinkFaults(config.hosts)
        self._connections: set[DelayedConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer = ExactTimer(now_mono_ms)
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Listen on all ports; the control socket opens last, when all is ready."""
        loop = asyncio.get_running_loop()
        for listener in self._config.listeners:
            sock = socket.create_server((_HOST, listener.port), backlog=_BACKLOG)
            sock.setblocking(False)
            loop.add_reader(sock, self._accept, sock, listener)
        path = self._config.control_socket
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        limit = _MAX_CONTROL_LINE_BYTES
        control = await asyncio.start_unix_server(self._control, path, limit=limit)
        os.chmod(path, 0o600)
        self._servers.append(control)
        _log.info("relay listens links=%d", len(self._config.listeners))

    def _accept(self, listening: socket.socket, listener: Listener) -> None:
        try:
            sock, address = listening.accept()
        except OSError:
            return
        sock.setblocking(False)
        source = listener.source or self._config.sources.get(address[0], "")
        trips = self._config.round_trips_ms.get(source, {})
        round_trip_ms = trips.get(listener.destination)
        refused = self._faults.refuses(source, listener.destination)
        if round_trip_ms is None or refused or len(self._connections) >= MAX_CONNECTIONS:
            if not refused:
                _log.warning("refused from=%s to=%s", source or address[0], listener.destination)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            sock.close()
            return
        connection = DelayedConnection(
            source,
            listener.destination,
            round_trip_ms=round_trip_ms,
            faults=self._faults,
            timer=self._timer,
            now_mono_ms=now_mono_ms,
            on_end=self._connections.discard,
        )
        self._connections.add(connection)
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._carry(connection, sock, listener))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(
        self, connection: DelayedConnection, sock: socket.socket, listener: Listener
    ) -> None:
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: connection.near, sock)
        if connection.mute:
            return
        # The destination is dialled when the first packet would have arrived.
        arrived = asyncio.Event()
        self._timer.at(
            connection.accepted_mono_ms + connection.one_way_ms, lambda _now: arrived.set()
        )
        await arrived.wait()
        if connection.near.closed:
            return
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await loop.create_connection(lambda: connection.far, _HOST, listener.target_port)
        except (OSError, TimeoutError):
            connection.refuse()

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                try:
                    line = await reader.readline()
                except ValueError:
                    break  # a line over the limit
                if not line:
                    break
                writer.write(json.dumps(self._obey(line)).encode() + b"\n")
                await writer.drain()
        writer.close()

    def _obey(self, line: bytes) -> dict[str, object]:
        try:
            asked = json.loads(line)
            fault, source = Fault(asked["fault"]), str(asked["source"])
            destination = str(asked["destination"])
            self._faults.apply(fault, source, destination)
        except EdgeForgeError as error:
            return {"error": str(error)}
        except (ValueError, KeyError, TypeError) as error:
            return {"error": f"not understood: {error}"}
        now = now_mono_ms()
        for connection in list(self._connections):
            connection.look_at_faults(now)
        _log.info("fault=%s source=%s destination=%s", fault, source, destination)
        return {"ok": True}


async def _serve(config: DelayConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    relay = DelayRelay(config)
    await relay.start()
    await stop.wait()


def main() -> None:
    """Relay until SIGTERM or SIGINT."""
    log_to_stderr(logging.INFO)
    try:
        asyncio.run(_serve(load_delay_config(Path(sys.argv[1]))))
    except (EdgeForgeError, OSError, IndexError) as error:
        known = error if isinstance(error, EdgeForgeError) else EdgeForgeError(str(error))
        print_error("delay relay", known)
        sys.exit(_EXIT_CONFIG)


if __name__ == "__main__":
    main()
