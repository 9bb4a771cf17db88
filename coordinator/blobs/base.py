"""What both stores do alike: uploads over a local part, leases, lists of pieces."""

from __future__ import annotations

import abc
import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from coordinator.blobs.disk import in_thread
from coordinator.blobs.interface import MAX_TRIALS, SHA256_BYTES, check_sha256
from coordinator.blobs.leases import Leases
from coordinator.blobs.piece_hash import PieceHasher
from protos.domain.errors import NotFound, StoreUnavailable
from protos.domain.pieces import piece_count

if TYPE_CHECKING:
    from pathlib import Path

    from coordinator.blobs.incoming import Incoming
    from coordinator.core.blob_gc import StoredBlob

_LOOKUPS_AT_ONCE = 16


class _Upload(NamedTuple):
    """What is uploaded, by whom. ``proving``: all of it, stored or not."""

    sha256: bytes
    size_bytes: int
    owner: str
    proving: bool


class BlobStoreBase(abc.ABC):
    """The shared half of a ``BlobStore``; see there for what the methods do."""

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming
        self._leases = Leases()
        self._backfill = asyncio.Lock()
        self.trial_place = asyncio.Semaphore(MAX_TRIALS)

    @abc.abstractmethod
    async def size_bytes(self, sha256: bytes) -> int | None:
        """Return a blob's size, None if it is not stored."""

    @abc.abstractmethod
    def read(
        self, sha256: bytes, offset_bytes: int = 0, length_bytes: int = 0
    ) -> AsyncGenerator[bytes, None]:
        """Yield a part of a blob."""

    @abc.abstractmethod
    async def _touch(self, sha256: bytes) -> bool:
        """Count a blob as used now; return whether it is stored."""

    @abc.abstractmethod
    async def _last_touch(self, sha256: bytes) -> int:
        """Return when a blob was last touched, in Unix ms; 0 if nothing is known."""

    @abc.abstractmethod
    async def _publish(self, part: Path, sha256: bytes, piece_list: bytes) -> None:
        """Store a complete part under its name, which only ever names right bytes."""

    @abc.abstractmethod
    async def _delete(self, sha256: bytes) -> bool:
        """Delete a blob and its pieces; return whether it was stored."""

    @abc.abstractmethod
    async def _stored_pieces(self, sha256: bytes) -> bytes:
        """Return what is stored as the piece list, empty for none."""

    @abc.abstractmethod
    async def _store_pieces(self, sha256: bytes, piece_list: bytes) -> None:
        """Store a piece list."""

    async def missing(self, sha256s: Sequence[bytes]) -> list[bytes]:
        """Return the digests that are not stored; touch the others."""
        names = tuple(dict.fromkeys(sha256s))
        for name in names:
            check_sha256(name)
        found: list[bool] = []
        async with self._leases.hold(names):
            for start in range(0, len(names), _LOOKUPS_AT_ONCE):
                batch = names[start : start + _LOOKUPS_AT_ONCE]
                found += await asyncio.gather(*map(self._touch, batch))
        return [name for name, is_stored in zip(names, found, strict=True) if not is_stored]

    async def received_bytes(self, sha256: bytes, *, owner: str = "", proving: bool = False) -> int:
        """Return where ``owner`` resumes an upload."""
        stored_bytes = None if proving else await self.size_bytes(sha256)
        if stored_bytes is not None:
            return stored_bytes
        return await self._incoming.received_bytes(sha256, owner)

    async def append(
        self,
        sha256: bytes,
        size_bytes: int,
        offset_bytes: int,
        chunks: AsyncIterator[bytes],
        *,
        owner: str = "",
        proving: bool = False,
    ) -> int:
        """Continue an upload."""
        upload = _Upload(sha256, size_bytes, owner, proving)
        return await self._receive(upload, offset_bytes, chunks)

    async def write(
        self,
        sha256: bytes,
        size_bytes: int,
        chunks: AsyncIterator[bytes],
        *,
        owner: str = "",
        proving: bool = False,
    ) -> None:
        """Receive a whole blob."""
        await self._receive(_Upload(sha256, size_bytes, owner, proving), None, chunks)

    async def read_start(self, sha256: bytes, limit_bytes: int) -> bytes:
        """Return the first ``limit_bytes`` of a blob, or all if it is shorter. Raises: NotFound."""
        async with contextlib.aclosing(self.read(sha256, 0, limit_bytes)) as chunks:
            return b"".join([chunk async for chunk in chunks]) if limit_bytes else b""

    async def piece_list(self, sha256: bytes) -> bytes:
        """Return the digests of the blob's pieces."""
        size_bytes = await self.size_bytes(sha256)
        if size_bytes is None:
            raise no_blob(sha256)
        if piece_count(size_bytes) <= 1:
            return sha256 if size_bytes else b""
        wanted_bytes = piece_count(size_bytes) * SHA256_BYTES
        stored = await self._stored_pieces(sha256)
        if len(stored) == wanted_bytes:
            return stored
        async with self._backfill:
            stored = await self._stored_pieces(sha256)
            if len(stored) == wanted_bytes:
                return stored
            piece_list = await self._hash(sha256)
            await self._store_pieces(sha256, piece_list)
        return piece_list

    def leased(self, sha256s: Sequence[bytes]) -> contextlib.AbstractAsyncContextManager[None]:
        """Keep blobs from being removed meanwhile."""
        return self._leases.hold(sha256s)

    async def remove(self, blob: StoredBlob, may_go: Callable[[], bool]) -> bool:
        """Delete a listed blob that nobody is about to name."""
        sha256 = blob.sha256
        async with self._leases.removal():
            held = self._leases.is_held(sha256) or self._incoming.is_receiving(sha256)
            if held or await self._last_touch(sha256) > blob.touched_unix_ms or not may_go():
                return False
            return await self._delete(sha256)

    async def drop_partials(self, older_than_unix_ms: int) -> int:
        """Delete uploads that nobody has continued since; return their bytes."""
        return await self._incoming.drop_older(older_than_unix_ms)

    async def _receive(
        self, upload: _Upload, offset_bytes: int | None, chunks: AsyncIterator[bytes]
    ) -> int:
        """Receive from ``offset_bytes`` on; None: a whole blob, from its start."""
        sha256, size_bytes, owner, proving = upload
        self._incoming.check_size(size_bytes)
        async with self._leases.hold((sha256,)):
            if not proving and not await self.missing((sha256,)):
                return size_bytes
            async with self._incoming.turn(sha256, owner) as partial:
                if not proving and not await self.missing((sha256,)):
                    await partial.restart()
                    return size_bytes
                if not await self._incoming.receive(
                    partial, size_bytes, offset_bytes, chunks, owner
                ):
                    return partial.received_bytes
                piece_list = await partial.finish()
                if await self.missing((sha256,)):
                    await self._publish(partial.path, sha256, piece_list)
                else:
                    await partial.restart()
                return size_bytes

    async def _hash(self, sha256: bytes) -> bytes:
        """Return the piece list of a stored blob. Raises: StoreUnavailable if it is damaged."""
        hasher = PieceHasher()
        async with contextlib.aclosing(self.read(sha256)) as chunks:
            async for chunk in chunks:
                await in_thread(hasher.update, chunk)
        if hasher.digest() != sha256:
            raise StoreUnavailable(
                f"the stored blob {sha256.hex()} is damaged",
                "check its disk or bucket; delete the blob there and import the model again",
                retryable=False,
            )
        return hasher.piece_list()


def no_blob(sha256: bytes) -> NotFound:
    return NotFound(f"there is no blob {sha256.hex()}", "import the model again")
