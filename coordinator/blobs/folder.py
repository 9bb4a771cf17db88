"""A content-addressed folder: each file is named by its SHA-256, which is checked on receipt.

``<folder>/ab/cd/<sha256>`` holds a blob, ``<sha256>.pieces`` beside it the digests of its pieces
if it has more than one; ``<folder>/incoming/`` holds uploads in progress. A blob's time of
modification is when it was last touched. All disk work is done in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

from coordinator.blobs.disk import READ, RESERVE_BYTES, disk_errors, in_thread, on_disk
from coordinator.blobs.incoming import TURN_WAIT_S, Incoming, IncomingLimits, Partial
from coordinator.blobs.interface import (
    CHUNK_BYTES,
    MAX_BLOB_BYTES,
    MAX_TRIALS,
    SHA256_BYTES,
    StoredBlob,
    check_sha256,
)
from coordinator.blobs.leases import Leases
from coordinator.blobs.piece_hash import PieceHasher
from protos.domain.errors import InvalidRequest, NotFound, StoreUnavailable
from protos.domain.pieces import piece_count
from protos.host.files import sync_folder, write_whole

_log = logging.getLogger(__name__)

_PIECES = ".pieces"
_INCOMING = "incoming"


class FolderStore:
    """A ``BlobStore`` in a folder. Made by ``open``; used from one event loop."""

    def __init__(self, folder: Path, incoming: Incoming) -> None:
        self._folder = folder
        self._incoming = incoming
        self._leases = Leases()
        self._backfill = asyncio.Lock()
        self.trial_place = asyncio.Semaphore(MAX_TRIALS)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        max_blob_bytes: int = MAX_BLOB_BYTES,
        max_writers: int = 8,
        max_partial_bytes: int = 256 * 1024**3,
        reserve_bytes: int = RESERVE_BYTES,
        turn_wait_s: float = TURN_WAIT_S,
    ) -> FolderStore:
        """Open ``folder``, made if missing."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        limits = IncomingLimits(
            max_blob_bytes=max_blob_bytes,
            max_writers=max_writers,
            max_partial_bytes=max_partial_bytes,
            reserve_bytes=reserve_bytes,
            turn_wait_s=turn_wait_s,
        )
        return cls(folder, Incoming.open(folder / _INCOMING, limits))

    async def size_bytes(self, sha256: bytes) -> int | None:
        """Return a blob's size, None if it is not stored."""
        path = self._path(sha256)
        with disk_errors(self._folder):
            return await asyncio.to_thread(_size_of, path)

    async def missing(self, sha256s: Sequence[bytes]) -> list[bytes]:
        """Return the digests that are not stored; touch the others."""
        paths = {one: self._path(one) for one in sha256s}
        async with self._leases.hold(tuple(paths)):
            with disk_errors(self._folder):
                return await asyncio.to_thread(
                    lambda: [one for one, path in paths.items() if not _touch(path)]
                )

    async def received_bytes(self, sha256: bytes, *, owner: str = "") -> int:
        """Return where ``owner`` resumes an upload."""
        stored_bytes = await self.size_bytes(sha256)
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
    ) -> int:
        """Continue an upload; see ``BlobStore.append``."""
        return await self._receive(sha256, size_bytes, offset_bytes, chunks, owner)

    async def write(
        self, sha256: bytes, size_bytes: int, chunks: AsyncIterator[bytes], *, owner: str = ""
    ) -> None:
        """Receive a whole blob; see ``BlobStore.write``."""
        await self._receive(sha256, size_bytes, None, chunks, owner)

    async def read(
        self, sha256: bytes, offset_bytes: int = 0, length_bytes: int = 0
    ) -> AsyncGenerator[bytes, None]:
        """Yield a part of a blob; one that is removed meanwhile is read to its end."""
        with disk_errors(self._folder), self._opened(sha256) as descriptor:
            size_bytes = os.fstat(descriptor).st_size
            if offset_bytes > size_bytes:
                raise InvalidRequest(f"offset {offset_bytes} lies behind the end at {size_bytes}")
            end = min(size_bytes, offset_bytes + length_bytes) if length_bytes else size_bytes
            while (left_bytes := end - offset_bytes) > 0:
                count = min(CHUNK_BYTES, left_bytes)
                chunk = await in_thread(os.pread, descriptor, count, offset_bytes)
                if not chunk:
                    raise StoreUnavailable(f"the blob {sha256.hex()} ends at {offset_bytes}")
                yield chunk
                offset_bytes += len(chunk)

    async def read_start(self, sha256: bytes, limit_bytes: int) -> bytes:
        """Return the first ``limit_bytes`` of a blob, or all if it is shorter. Raises: NotFound."""
        async with contextlib.aclosing(self.read(sha256, 0, limit_bytes)) as chunks:
            return b"".join([chunk async for chunk in chunks]) if limit_bytes else b""

    async def piece_list(self, sha256: bytes) -> bytes:
        """Return the digests of the blob's pieces; see ``BlobStore.piece_list``."""
        size_bytes = await self.size_bytes(sha256)
        if size_bytes is None:
            raise _no_blob(sha256)
        if piece_count(size_bytes) <= 1:
            return sha256 if size_bytes else b""
        path = self._pieces_path(sha256)
        wanted_bytes = piece_count(size_bytes) * SHA256_BYTES
        with disk_errors(self._folder):
            stored = await asyncio.to_thread(_read_if_there, path)
            if len(stored) == wanted_bytes:
                return stored
            async with self._backfill:
                stored = await asyncio.to_thread(_read_if_there, path)
                if len(stored) == wanted_bytes:
                    return stored
                piece_list = await self._hash(sha256)
                await in_thread(write_whole, path, piece_list)
        return piece_list

    @contextlib.asynccontextmanager
    async def local_copy(self, sha256: bytes) -> AsyncIterator[Path]:
        """Hold the blob's own file, to be read only."""
        async with self._leases.hold((sha256,)):
            if await self.size_bytes(sha256) is None:
                raise _no_blob(sha256)
            yield self._path(sha256)

    def leased(self, sha256s: Sequence[bytes]) -> contextlib.AbstractAsyncContextManager[None]:
        """Keep blobs from being removed meanwhile."""
        return self._leases.hold(sha256s)

    async def list_all(self) -> list[StoredBlob]:
        """Return every stored blob."""
        with disk_errors(self._folder):
            return await asyncio.to_thread(_blobs_in, self._folder)

    async def remove(self, sha256: bytes, may_go: Callable[[], bool]) -> bool:
        """Delete a blob; see ``BlobStore.remove``."""
        path, pieces = self._path(sha256), self._pieces_path(sha256)
        async with self._leases.removal():
            held = self._leases.is_held(sha256) or self._incoming.is_receiving(sha256)
            if held or not may_go():
                return False
            with disk_errors(self._folder):
                return await in_thread(_unlink, path, pieces)

    async def drop_partials(self, older_than_unix_ms: int) -> int:
        """Delete uploads that nobody has continued since; return their bytes."""
        return await self._incoming.drop_older(older_than_unix_ms)

    async def _receive(
        self,
        sha256: bytes,
        size_bytes: int,
        offset_bytes: int | None,
        chunks: AsyncIterator[bytes],
        owner: str,
    ) -> int:
        """Receive from ``offset_bytes`` on; None: a whole blob, from its start."""
        self._incoming.check_size(size_bytes)
        async with self._leases.hold((sha256,)):
            if not await self.missing((sha256,)):
                return size_bytes
            async with self._incoming.turn(sha256, owner) as partial:
                if not await self.missing((sha256,)):
                    await partial.restart()
                elif await self._incoming.receive(partial, size_bytes, offset_bytes, chunks, owner):
                    piece_list = await partial.finish()
                    await on_disk(self._folder, self._move, partial, piece_list)
                else:
                    return partial.received_bytes
                return size_bytes

    def _move(self, partial: Partial, piece_list: bytes) -> None:
        path = self._path(partial.sha256)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if len(piece_list) > SHA256_BYTES:
            write_whole(self._pieces_path(partial.sha256), piece_list)
        os.utime(partial.path)
        partial.path.rename(path)
        for folder in (path.parent, path.parent.parent, self._folder):
            sync_folder(folder)

    async def _hash(self, sha256: bytes) -> bytes:
        """Return the piece list of a stored blob. Raises: StoreUnavailable if it is damaged."""
        hasher = PieceHasher()
        async with contextlib.aclosing(self.read(sha256)) as chunks:
            async for chunk in chunks:
                await in_thread(hasher.update, chunk)
        if hasher.digest() != sha256:
            raise StoreUnavailable(
                f"the stored blob {sha256.hex()} is damaged",
                "check the disk; delete the blob's file and import the model again",
                retryable=False,
            )
        return hasher.piece_list()

    @contextlib.contextmanager
    def _opened(self, sha256: bytes) -> Iterator[int]:
        try:
            descriptor = os.open(self._path(sha256), READ)
        except FileNotFoundError:
            raise _no_blob(sha256) from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _path(self, sha256: bytes) -> Path:
        name = check_sha256(sha256)
        return self._folder / name[:2] / name[2:4] / name

    def _pieces_path(self, sha256: bytes) -> Path:
        path = self._path(sha256)
        return path.with_name(path.name + _PIECES)


def _no_blob(sha256: bytes) -> NotFound:
    return NotFound(f"there is no blob {sha256.hex()}", "import the model again")


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _touch(path: Path) -> bool:
    """Set the time of a blob to now; return whether it is there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _read_if_there(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _unlink(path: Path, pieces: Path) -> bool:
    pieces.unlink(missing_ok=True)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _blobs_in(folder: Path) -> list[StoredBlob]:
    found = []
    for path in folder.glob("??/??/*"):
        if len(path.name) != 2 * SHA256_BYTES:
            continue
        with contextlib.suppress(FileNotFoundError, ValueError):
            about = path.stat()
            touched_unix_ms = about.st_mtime_ns // 1_000_000
            found.append(StoredBlob(bytes.fromhex(path.name), about.st_size, touched_unix_ms))
    return found
