"""Sends model files to nodes: a bounded number at once, in all and for each node."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from protos.domain.errors import DeadlineExceeded, Forbidden, Overloaded

if TYPE_CHECKING:
    from coordinator.blobs.interface import BlobStore
    from coordinator.core.fleet_figures import FleetCounters
    from coordinator.fleet.file_holders import FileHolders

_log = logging.getLogger(__name__)

#: A transfer ends when its node takes no chunk for so long.
CHUNK_TIMEOUT_S = 60.0
_RETRY_AFTER_S = 2.0


class FleetFiles:
    """Sends blobs to the nodes that should hold them."""

    def __init__(
        self,
        blobs: BlobStore,
        holders: FileHolders,
        *,
        max_streams: int,
        max_streams_per_node: int,
        counters: FleetCounters,
    ) -> None:
        self._blobs = blobs
        self._holders = holders
        self._max_streams = max_streams
        self._max_streams_per_node = max_streams_per_node
        self._counters = counters
        self._streams = 0
        self._of_node: Counter[str] = Counter()

    async def send(
        self,
        node_id: str,
        sha256: bytes,
        offset_bytes: int,
        write: Callable[[bytes], Awaitable[None]],
        *,
        length_bytes: int = 0,
        piece_list: bool = False,
    ) -> None:
        """Write ``length_bytes`` of a file from an offset on, 0 for all; or its piece list.

        A file that is removed meanwhile is sent to its end, or ends with NotFound. Raises:
        Forbidden unless the node may hold something with that file; Overloaded; NotFound;
        InvalidRequest; DeadlineExceeded for a reader that stalls; StoreUnavailable.
        """
        if not self._holders.may_fetch(node_id, sha256):
            self._counters.blobs_refused += 1
            raise Forbidden(
                f"nothing that {node_id} may hold has the file {sha256.hex()[:64]}",
                "what it should hold may have changed: see `edgeforge deployment ls`",
            )
        with self._place(node_id):
            if piece_list:
                digests = await self._blobs.piece_list(sha256)
                await self._write(write, digests)
                self._counters.blob_bytes += len(digests)
                return
            chunks = self._blobs.read(sha256, offset_bytes, length_bytes)
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    await self._write(write, chunk)
                    self._counters.blob_bytes += len(chunk)

    async def _write(self, write: Callable[[bytes], Awaitable[None]], chunk: bytes) -> None:
        try:
            async with asyncio.timeout(CHUNK_TIMEOUT_S):
                await write(chunk)
        except TimeoutError:
            raise DeadlineExceeded(
                f"no chunk was taken for {CHUNK_TIMEOUT_S:.0f} s", "resume at the offset reached"
            ) from None

    @contextlib.contextmanager
    def _place(self, node_id: str) -> Iterator[None]:
        """Occupy one of the transfer slots. Raises: Overloaded."""
        if self._streams >= self._max_streams or (
            self._of_node[node_id] >= self._max_streams_per_node
        ):
            self._counters.blobs_refused += 1
            raise Overloaded(
                f"{self._streams} files are being sent, {self._of_node[node_id]} to {node_id}",
                "ask again when one is done",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._streams += 1
        self._of_node[node_id] += 1
        try:
            yield
        finally:
            self._streams -= 1
            self._of_node[node_id] -= 1
            if not self._of_node[node_id]:
                del self._of_node[node_id]
