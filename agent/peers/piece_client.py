"""Pieces from other nodes: fetched, decrypted and hashed in threads, each over its own connection.

The event loop only decides. A piece is hashed slice by slice while it arrives, when it is still in
the processor's cache; the threads hold one piece each, and no other memory grows with an object.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import orjson

from agent.core.piece_swarm import candidates
from agent.core.pull_budget import MAX_PIECES
from agent.peers.fetch import fetch_response
from agent.peers.pieces import object_target
from agent.peers.tls import NODE_DNS_SUFFIX, PeerTls
from agent.relay.messages import request_bytes
from agent.tasks import to_end
from protos.domain.errors import EdgeForgeError, Forbidden, LinkDown, NotFound, Overloaded
from protos.domain.pieces import PIECE_BYTES

if TYPE_CHECKING:
    import ssl

    from agent.core.chunk_planner import Rank
    from agent.peers.pool import PeerPool
    from protos.domain.fleet_view import FleetView

_CONNECT_TIMEOUT_S = 2.0
#: A source that sends nothing for so long has failed.
_SILENT_S = 10.0
_ANSWER_TIMEOUT_MS = 2_000.0
_SLICE_BYTES = 256 * 1024
#: What the kernel may hold of a piece that arrives.
_RECEIVE_BUFFER_BYTES = 1024 * 1024
_MAX_IDLE = 4
#: Most of an error's body that is read.
_MAX_ERROR_BYTES = 4_096

_ERRORS: dict[int, type[EdgeForgeError]] = {403: Forbidden, 404: NotFound, 429: Overloaded}


class _Connection:
    """One blocking connection to a node; used by one thread at a time."""

    def __init__(self, secured: ssl.SSLSocket) -> None:
        self._secured = secured
        self._http = http.client.HTTPConnection("peer")
        self._http.sock = secured
        self.reusable = True

    def cut(self) -> None:
        """End what a thread is reading. From any thread."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._secured, socket.SHUT_RDWR)

    def close(self) -> None:
        self._http.close()
        self._secured.close()

    def fetch(self, target: str, buffer: memoryview) -> bytes:
        """Fill ``buffer`` with the answer and return its SHA-256. Raises: EdgeForgeError."""
        self.reusable = False
        try:
            self._http.request("GET", target)
            response = self._http.getresponse()
            if response.status != 200:
                raise self._refusal(response)
            if response.length != len(buffer):
                raise LinkDown(f"{response.length} bytes instead of a piece of {len(buffer)}")
            digest = hashlib.sha256()
            at_bytes = 0
            while at_bytes < len(buffer):
                part = buffer[at_bytes : at_bytes + _SLICE_BYTES]
                got_bytes = response.readinto(part)
                if not got_bytes:
                    raise LinkDown("the connection ended within a piece")
                digest.update(part[:got_bytes])
                at_bytes += got_bytes
            self.reusable = not response.will_close
            response.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise LinkDown(f"{type(error).__name__}: {error}") from error
        return digest.digest()

    def _refusal(self, response: http.client.HTTPResponse) -> EdgeForgeError:
        body = response.read(_MAX_ERROR_BYTES)
        self.reusable = not response.will_close and response.isclosed()
        kind = _ERRORS.get(response.status, LinkDown)
        retry_after_s = None
        with contextlib.suppress(ValueError):
            retry_after_s = min(30.0, float(response.headers.get("retry-after", "")))
        text = body.decode("utf-8", "replace")[:200]
        return kind(f"status {response.status}: {text}", retry_after_s=retry_after_s)


class _Exchange:
    """One piece's request: over a kept connection, else over a new one."""

    def __init__(self, kept: _Connection | None, dial: Callable[[], _Connection]) -> None:
        self._kept = kept
        self._dial = dial
        self._is_cut = False
        self.used = [] if kept is None else [kept]

    def run(self, target: str, buffer: memoryview) -> bytes:
        """Fill ``buffer`` and return its SHA-256. In a thread. Raises: EdgeForgeError."""
        if self._kept is not None:
            try:
                return self._kept.fetch(target, buffer)
            except LinkDown:  # the other side may have closed it meanwhile
                if self._is_cut:
                    raise
        fresh = self._dial()
        self.used.append(fresh)
        if self._is_cut:
            raise LinkDown("given up")
        return fresh.fetch(target, buffer)

    def cut(self) -> None:
        """End what ``run`` does. From any thread."""
        self._is_cut = True
        for connection in list(self.used):
            connection.cut()


class PieceClient:
    """Asks the nodes of the table for pieces. Implements ``artifacts.sources.Peers``."""

    def __init__(
        self,
        here: str,
        pool: PeerPool,
        tls: PeerTls,
        view: Callable[[], FleetView],
        source_address: str,
    ) -> None:
        self.here = here
        self._pool = pool
        self._tls = tls
        self._view = view
        self._source = (source_address, 0) if source_address else None
        self._threads = ThreadPoolExecutor(MAX_PIECES, thread_name_prefix="pieces")
        self._buffers = threading.local()
        self._idle: dict[str, list[_Connection]] = {}
        self._chosen: dict[str, tuple[FleetView, Mapping[str, Rank]]] = {}

    def candidates(self, name: str) -> Mapping[str, Rank]:
        """Return the nodes that may have pieces of ``name``, by the table; computed once for it."""
        view = self._view()
        chosen = self._chosen.get(name)
        if chosen is None or chosen[0] is not view:
            if chosen is None and len(self._chosen) >= 1_024:
                self._chosen.clear()
            chosen = self._chosen[name] = (view, candidates(view, self.here, name))
        return chosen[1]

    async def pieces_of(self, node_id: str, name: str) -> Mapping[str, int]:
        """Return which pieces a node says it has. Raises: EdgeForgeError, TimeoutError."""
        body = await self._ask(node_id, object_target(name))
        try:
            files = orjson.loads(body)["files"]
            return {str(digest): int(have, 16) for digest, have in files.items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LinkDown(f"node {node_id} says nothing understandable") from error

    async def piece_list(self, node_id: str, name: str, sha256: bytes) -> bytes:
        """Return a file's piece list, unverified. Raises: EdgeForgeError, TimeoutError."""
        return await self._ask(node_id, object_target(name, sha256.hex(), "list"))

    async def fetch(
        self,
        node_id: str,
        name: str,
        sha256: bytes,
        index: int,
        size_bytes: int,
        accept: Callable[[memoryview, bytes], None],
    ) -> None:
        """Fetch a piece and hand it to ``accept`` in the thread that read it.

        Cancelled, it cuts the connection. Raises: EdgeForgeError, and what ``accept`` raises.
        """
        address = self._pool.address_of(node_id)
        if address is None or not 0 < size_bytes <= PIECE_BYTES:
            raise LinkDown(f"node {node_id} has no address")
        target = object_target(name, sha256.hex(), str(index)).decode()
        idle = self._idle.get(node_id)
        exchange = _Exchange(idle.pop() if idle else None, lambda: self._dial(node_id, address))

        def work() -> None:
            buffer = self._buffer()[:size_bytes]
            accept(buffer, exchange.run(target, buffer))

        try:
            await _cut_when_cancelled(work, self._threads, exchange)
        finally:
            keep = self._idle.setdefault(node_id, [])
            for connection in exchange.used:
                if connection.reusable and len(keep) < _MAX_IDLE:
                    keep.append(connection)
                else:
                    connection.close()

    def reset(self) -> None:
        """Close idle connections, which were made with the old certificate."""
        idle, self._idle = self._idle, {}
        for connections in idle.values():
            for one in connections:
                one.close()

    def close(self) -> None:
        """Close connections and threads; no fetch is in progress any more."""
        self.reset()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, node_id: str, target: bytes) -> bytes:
        pool = self._pool.pool_for(node_id)
        if pool is None:
            raise LinkDown(f"node {node_id} has no address")
        message = request_bytes("GET", target, pool.address.host_header, [], b"")
        status, body = await fetch_response(pool, message, _ANSWER_TIMEOUT_MS)
        if status != 200:
            raise _ERRORS.get(status, LinkDown)(f"node {node_id} answers {status}")
        return body

    def _dial(self, node_id: str, address: tuple[str, int]) -> _Connection:
        """Connect, in a thread. Raises: LinkDown."""
        try:
            raw = socket.create_connection(
                address, timeout=_CONNECT_TIMEOUT_S, source_address=self._source
            )
            try:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
                secured = self._tls.client().wrap_socket(
                    raw, server_hostname=node_id + NODE_DNS_SUFFIX
                )
                self._tls.check_socket(node_id, secured)
                secured.settimeout(_SILENT_S)
            except BaseException:
                raw.close()
                raise
        except (OSError, EdgeForgeError) as error:
            raise LinkDown(f"node {node_id}: {error}") from error
        return _Connection(secured)

    def _buffer(self) -> memoryview:
        """Return this thread's memory for one piece."""
        buffer: memoryview | None = getattr(self._buffers, "piece", None)
        if buffer is None:
            buffer = self._buffers.piece = memoryview(bytearray(PIECE_BYTES))
        return buffer


async def _cut_when_cancelled(
    work: Callable[[], None], threads: ThreadPoolExecutor, exchange: _Exchange
) -> None:
    """Run ``work`` in a thread; cancelled, cut its connections so that it ends at once."""
    running = asyncio.get_running_loop().create_task(to_end(work, threads))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        exchange.cut()
        with contextlib.suppress(asyncio.CancelledError, EdgeForgeError, OSError):
            await running
        raise
