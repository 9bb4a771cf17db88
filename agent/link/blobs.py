"""Downloads model files from the coordinator by digest, each over its own channel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from grpc import aio

from agent.link.errors import rpc_error
from protos.v1 import fleet_pb2, fleet_pb2_grpc


class BlobSource:
    """The coordinator's files; a large download does not delay the fleet stream."""

    def __init__(self, make_channel: Callable[[], aio.Channel]) -> None:
        self._make_channel = make_channel

    async def fetch(self, sha256: bytes, offset_bytes: int) -> AsyncIterator[bytes]:
        """Yield the file's bytes from ``offset_bytes`` on, unverified. Raises: EdgeForgeError."""
        request = fleet_pb2.FetchBlobRequest(sha256=sha256, offset_bytes=offset_bytes)
        async with self._make_channel() as channel:
            try:
                async for chunk in fleet_pb2_grpc.FleetStub(channel).FetchBlob(request):
                    yield chunk.data
            except aio.AioRpcError as error:
                raise rpc_error(error) from error
