"""Downloads model files from the coordinator by digest, over a channel of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from grpc import aio

from agent.link.errors import rpc_error
from protos.domain.errors import LinkDown
from protos.domain.pieces import MAX_PIECE_LIST_BYTES
from protos.v1 import fleet_pb2, fleet_pb2_grpc


class BlobSource:
    """The coordinator's files; a large download does not delay the fleet stream.

    One channel carries all downloads that run at the same time, and closes after the last.
    """

    def __init__(self, make_channel: Callable[[], aio.Channel]) -> None:
        self._make_channel = make_channel
        self._channel: aio.Channel | None = None
        self._users = 0

    async def fetch(
        self, sha256: bytes, offset_bytes: int, length_bytes: int = 0
    ) -> AsyncIterator[bytes]:
        """Yield the file's bytes from ``offset_bytes`` on, unverified. Raises: EdgeForgeError.

        ``length_bytes`` of them; 0: all. A coordinator that does not know lengths sends all, and
        is cut short.
        """
        request = fleet_pb2.FetchBlobRequest(
            sha256=sha256, offset_bytes=offset_bytes, length_bytes=length_bytes
        )
        left_bytes = length_bytes
        async for data in self._stream(request):
            yield data[:left_bytes] if length_bytes else data
            left_bytes -= len(data)
            if length_bytes and left_bytes <= 0:
                return

    async def piece_list(self, sha256: bytes) -> bytes:
        """Return the file's piece list, unverified. Raises: EdgeForgeError."""
        request = fleet_pb2.FetchBlobRequest(sha256=sha256, piece_list=True)
        found = bytearray()
        async for data in self._stream(request):
            found += data
            if len(found) > MAX_PIECE_LIST_BYTES:
                raise LinkDown("the coordinator's piece list is longer than any file's")
        return bytes(found)

    @asynccontextmanager
    async def keep_open(self) -> AsyncIterator[None]:
        """Keep the channel for several downloads one after the other."""
        self._users += 1
        if self._channel is None:
            self._channel = self._make_channel()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                channel, self._channel = self._channel, None
                await channel.close()

    async def _stream(self, request: fleet_pb2.FetchBlobRequest) -> AsyncIterator[bytes]:
        async with self.keep_open():
            assert self._channel is not None
            call = fleet_pb2_grpc.FleetStub(self._channel).FetchBlob(request)
            try:
                async for chunk in call:
                    yield chunk.data
            except aio.AioRpcError as error:
                raise rpc_error(error) from error
            finally:
                call.cancel()
