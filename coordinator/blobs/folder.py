"""A content-addressed folder: each file is named by its SHA-256, which is checked on receipt.

``<folder>/ab/cd/<sha256>`` holds a blob, ``<sha256>.pieces`` beside it the digests of its pieces
if it has more than one; ``<folder>/incoming/`` holds uploads in progress. A blob's time of
modification is when it was last touched. All disk work is done in threads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path

from coordinator.blobs.base import BlobStoreBase, no_blob
from coordinator.blobs.disk import READ, RESERVE_BYTES, disk_errors, in_thread, on_disk
from coordinator.blobs.incoming import TURN_WAIT_S, Incoming, IncomingLimits
from coordinator.blobs.interface import (
    CHUNK_BYTES,
    MAX_BLOB_BYTES,
    SHA256_BYTES,
    check_sha256,
)
from coordinator.core.blob_gc import StoredBlob
from protos.domain.errors import InvalidRequest, StoreUnavailable
from protos.host.files import sync_folder, write_whole

_PIECES = ".pieces"
_INCOMING = "incoming"


class FolderStore(BlobStoreBase):
    """A ``BlobStore`` in a folder. Made by ``open``; used from one event loop."""

    def __init__(self, folder: Path, incoming: Incoming) -> None:
        super().__init__(incoming)
        self._folder = folder

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        max_blob_bytes: int = MAX_BLOB_BYTES,
        max_writers: int = 8,
        max_partial_bytes: int = 256 * 1024**3,
        max_partial_bytes_per_owner: int = 128 * 1024**3,
        reserve_bytes: int = RESERVE_BYTES,
        turn_wait_s: float = TURN_WAIT_S,
    ) -> FolderStore:
        """Open ``folder``, made if missing."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        limits = IncomingLimits(
            max_blob_bytes=max_blob_bytes,
            max_writers=max_writers,
            max_partial_bytes=max_partial_bytes,
            max_partial_bytes_per_owner=max_partial_bytes_per_owner,
            reserve_bytes=reserve_bytes,
            turn_wait_s=turn_wait_s,
        )
        return cls(folder, Incoming.open(folder / _INCOMING, limits))

    async def size_bytes(self, sha256: bytes) -> int | None:
        """Return a blob's size, None if it is not stored."""
        return await on_disk(self._folder, _size_of, self._path(sha256))

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

    @contextlib.asynccontextmanager
    async def local_copy(self, sha256: bytes) -> AsyncIterator[Path]:
        """Hold the blob's own file, to be read only."""
        async with self._leases.hold((sha256,)):
            if await self.size_bytes(sha256) is None:
                raise no_blob(sha256)
            yield self._path(sha256)

    async def list_all(self) -> list[StoredBlob]:
        """Return every stored blob."""
        return await on_disk(self._folder, _blobs_in, self._folder)

    async def _touch(self, sha256: bytes) -> bool:
        return await on_disk(self._folder, _touched, self._path(sha256))

    async def _last_touch(self, sha256: bytes) -> int:
        return await on_disk(self._folder, _time_of, self._path(sha256))

    async def _publish(self, part: Path, sha256: bytes, piece_list: bytes) -> None:
        await on_disk(self._folder, self._move, part, sha256, piece_list)

    def _move(self, part: Path, sha256: bytes, piece_list: bytes) -> None:
        path = self._path(sha256)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if len(piece_list) > SHA256_BYTES:
            write_whole(self._pieces_path(sha256), piece_list)
        os.utime(part)
        part.rename(path)
        for folder in (path.parent, path.parent.parent, self._folder):
            sync_folder(folder)

    async def _delete(self, sha256: bytes) -> bool:
        path, pieces = self._path(sha256), self._pieces_path(sha256)
        return await on_disk(self._folder, _unlink, path, pieces)

    async def _stored_pieces(self, sha256: bytes) -> bytes:
        return await on_disk(self._folder, _read_if_there, self._pieces_path(sha256))

    async def _store_pieces(self, sha256: bytes, piece_list: bytes) -> None:
        await on_disk(self._folder, write_whole, self._pieces_path(sha256), piece_list)

    @contextlib.contextmanager
    def _opened(self, sha256: bytes) -> Iterator[int]:
        try:
            descriptor = os.open(self._path(sha256), READ)
        except FileNotFoundError:
            raise no_blob(sha256) from None
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


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _touched(path: Path) -> bool:
    """Set the time of a blob to now; return whether it is there."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _time_of(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns // 1_000_000
    except FileNotFoundError:
        return 0


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
