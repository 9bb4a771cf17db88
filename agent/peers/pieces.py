"""Pieces of this node's models and adapters, for other nodes that may hold them.

``GET /pieces/<object>`` says which verified pieces are here, ``.../<sha256>/list`` is a file's
piece list, ``.../<sha256>/<index>`` a piece. Only of objects that this node was ordered to hold.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, unquote

import orjson

from agent.core.samples import Sample, Samples
from agent.core.token_bucket import TokenBucket
from agent.peers.heads import JSON
from agent.relay.messages import response_head
from protos.domain.errors import EdgeForgeError, Forbidden, NotFound, Overloaded
from protos.domain.holding import may_hold
from protos.domain.pieces import PIECE_BYTES

if TYPE_CHECKING:
    from agent.relay.messages import Request
    from agent.relay.server import ServerConnection
    from protos.domain.fleet_view import FleetView

PIECES_PATH = "/pieces/"
#: Pieces sent at once to one node, and to all: what one is sent waits for it in memory in slices.
MAX_TO_ONE = 4
MAX_TO_ALL = 16
#: Bytes given to the connection at once: to encrypt them takes the event loop 0.1 ms.
SLICE_BYTES = 256 * 1024
#: A piece that is not sent by then is given up: who reads slower, or not at all, holds one of the
#: few places, and asks again for what it lacks.
MAX_SEND_S = 120.0
#: When who was refused because of the number of streams asks again.
_CROWDED_S = 0.5
_DIGEST = re.compile(r"[0-9a-f]{64}")
_INDEX = re.compile(r"[0-9]{1,6}")
_BYTES = (b"content-type", b"application/octet-stream")


class PieceReader(Protocol):
    """One verified piece."""

    @property
    def size_bytes(self) -> int: ...
    def read_nowait(self, offset_bytes: int, length_bytes: int) -> bytearray | None:
        """Return a part from memory; None where the disk must be read."""

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Return a part. Blocking. Raises: OSError."""

    def close(self) -> None: ...


class Shelf(Protocol):
    """What this node was ordered to hold, as far as it is here and verified."""

    def pieces_here(self, name: str) -> Mapping[str, int] | None:
        """Return by file the verified pieces as bits; None for an object not held here."""

    def list_here(self, name: str, digest: str) -> bytes | None:
        """Return a file's piece list. Blocking."""

    def open_piece(self, name: str, digest: str, index: int) -> PieceReader | None:
        """Return a verified piece, to be closed; None if it is not here."""


def object_target(name: str, *parts: str) -> bytes:
    """Return the request target for an object, or for a part of it."""
    return "/".join((PIECES_PATH + quote(name, safe=""), *parts)).encode("ascii")


class _InMemory:
    """What is small, sent like a piece: its reader may be as slow. Implements ``PieceReader``."""

    def __init__(self, data: bytes) -> None:
        self.size_bytes = len(data)
        self._data = data

    def read_nowait(self, offset_bytes: int, length_bytes: int) -> bytearray:
        return bytearray(self._data[offset_bytes : offset_bytes + length_bytes])

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        return self._data[offset_bytes : offset_bytes + length_bytes]

    def close(self) -> None:
        """Nothing is open."""


class _Gate:
    """Lets a sender go on when its client has read enough. Implements ``Drainable``."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()

    def pause(self) -> None:
        self._open.clear()

    def resume(self) -> None:
        self._open.set()

    async def wait(self) -> None:
        """Wait for room, and let others have the event loop in any case."""
        if self._open.is_set():
            await asyncio.sleep(0)
        else:
            await self._open.wait()


class PieceServer:
    """Answers requests for pieces, within limits of its own."""

    def __init__(
        self,
        shelf: Shelf,
        view: Callable[[], FleetView],
        bytes_per_s: int,
        now_mono_ms: Callable[[], float],
        max_send_s: float = MAX_SEND_S,
    ) -> None:
        self._max_send_s = max_send_s
        self._shelf = shelf
        self._view = view
        self._now_mono_ms = now_mono_ms
        self._bucket = TokenBucket(bytes_per_s, PIECE_BYTES, now_mono_ms())
        self._sending: Counter[str] = Counter()
        self.sent_bytes = 0
        self.refused = 0

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield bytes sent and requests refused."""
        yield Sample(
            "edgeforge_pieces_sent_bytes",
            "Bytes of pieces sent to other nodes.",
            float(self.sent_bytes),
            counter=True,
        )
        yield Sample(
            "edgeforge_pieces_refused",
            "Requests of other nodes for pieces that were refused.",
            float(self.refused),
            counter=True,
        )

    async def serve(self, request: Request, client: ServerConnection) -> None:
        """Answer one request: 200, 403, 404 or 429 with a time to retry."""
        try:
            await self._serve(request, client)
        except EdgeForgeError as error:
            self.refused += 1
            headers = [JSON]
            if error.retry_after_s is not None:
                headers.append((b"retry-after", b"%.3f" % error.retry_after_s))
            body = orjson.dumps({"error": {"message": error.message}})
            client.respond(request, error.http_status, headers, body)

    async def _serve(self, request: Request, client: ServerConnection) -> None:
        node_id = str(client.context)
        name, *parts = request.path.removeprefix(PIECES_PATH).split("/")
        name = unquote(name)
        if not name or not may_hold(self._view(), node_id, name):
            raise Forbidden(f"node {node_id} may not hold {name[:100]!r}")
        match parts:
            case []:
                here = self._shelf.pieces_here(name)
                if here is None:
                    raise NotFound(f"{name[:100]!r} is not held here")
                files = {digest: f"{have:x}" for digest, have in here.items()}
                client.respond(request, 200, [JSON], orjson.dumps({"files": files}))
            case [digest, "list"] if _DIGEST.fullmatch(digest):
                found = await asyncio.to_thread(self._shelf.list_here, name, digest)
                if found is None:
                    raise NotFound("no piece list of this file is here")
                await self._send(request, client, _InMemory(found))
            case [digest, index] if _DIGEST.fullmatch(digest) and _INDEX.fullmatch(index):
                reader = self._shelf.open_piece(name, digest, int(index))
                if reader is None:
                    raise NotFound("this piece is not here")
                await self._send(request, client, reader)
            case _:
                raise NotFound("no such route below /pieces/")

    async def _send(self, request: Request, client: ServerConnection, reader: PieceReader) -> None:
        """Send what ``reader`` has, and close it. Raises: Overloaded."""
        node_id = str(client.context)
        try:
            self._enter(node_id, reader.size_bytes)
        except Overloaded:
            reader.close()
            raise
        try:
            async with asyncio.timeout(self._max_send_s):
                await self._stream(request, client, reader)
        except TimeoutError:
            client.abort()  # the other side sees a cut body
        finally:
            reader.close()
            self._sending[node_id] -= 1
            if not self._sending[node_id]:
                del self._sending[node_id]

    def _enter(self, node_id: str, size_bytes: int) -> None:
        """Take a place, and the bytes of what is sent. Raises: Overloaded."""
        if self._sending.get(node_id, 0) >= MAX_TO_ONE or self._sending.total() >= MAX_TO_ALL:
            raise Overloaded("too many pieces are being sent", retry_after_s=_CROWDED_S)
        now_mono_ms = self._now_mono_ms()
        if not self._bucket.take(size_bytes, now_mono_ms):
            wait_ms = self._bucket.wait_ms(size_bytes, now_mono_ms)
            raise Overloaded("limits.serve_bytes_per_s", retry_after_s=wait_ms / 1_000)
        self._sending[node_id] += 1

    async def _stream(
        self, request: Request, client: ServerConnection, reader: PieceReader
    ) -> None:
        gate = _Gate()
        client.flow_from(gate)
        length = (b"content-length", b"%d" % reader.size_bytes)
        keep_alive = client.may_keep_alive(request)
        client.write(response_head(200, [_BYTES, length], keep_alive=keep_alive))
        for at_bytes in range(0, reader.size_bytes, SLICE_BYTES):
            length_bytes = min(SLICE_BYTES, reader.size_bytes - at_bytes)
            data: bytes | bytearray | None = reader.read_nowait(at_bytes, length_bytes)
            if data is None:
                data = await asyncio.to_thread(reader.read, at_bytes, length_bytes)
            if len(data) < length_bytes or client.closing:
                client.abort()  # the other side sees a cut body
                return
            client.write(data)
            self.sent_bytes += length_bytes
            await gate.wait()
