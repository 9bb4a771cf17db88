"""A content-addressed folder: each file is named by its SHA-256, which is checked on receipt.

``<folder>/ab/cd/<sha256>`` holds a blob; ``<folder>/incoming/`` those being received, which are
deleted at the next start. All disk work is done in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from pathlib import Path

from protos.domain.errors import (
    InvalidRequest,
    NotFound,
    Overloaded,
    StoreUnavailable,
    TooLarge,
)
from protos.host.files import sync_folder

_log = logging.getLogger(__name__)

SHA256_BYTES = 32
CHUNK_BYTES = 1024 * 1024
MAX_BLOB_BYTES = 64 * 1024**3
#: Blobs that may be received at once.
MAX_WRITERS = 8
#: Imported models that may be tried at once.
MAX_TRIALS = 1
#: Free space that blobs must leave: the database needs some on the same disk.
RESERVE_BYTES = 64 * 1024**2

_FULL = (errno.ENOSPC, errno.EDQUOT)


class BlobStore:
    """Blobs by SHA-256. Made by ``open``; used from one event loop."""

    def __init__(
        self, folder: Path, *, max_blob_bytes: int, max_writers: int, reserve_bytes: int
    ) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        self._max_blob_bytes = max_blob_bytes
        self._max_writers = max_writers
        self._reserve_bytes = reserve_bytes
        self._writers = 0
        #: Held while a model's files are tried: one trial takes a core and much memory.
        self.trial_place = asyncio.Semaphore(MAX_TRIALS)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        max_blob_bytes: int = MAX_BLOB_BYTES,
        max_writers: int = MAX_WRITERS,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> BlobStore:
        """Open ``folder``, made if missing, and delete what an earlier process received in part."""
        store = cls(
            folder,
            max_blob_bytes=max_blob_bytes,
            max_writers=max_writers,
            reserve_bytes=reserve_bytes,
        )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        store._incoming.mkdir(mode=0o700, exist_ok=True)
        for leftover in store._incoming.iterdir():
            leftover.unlink()
        return store

    def size_bytes(self, sha256: bytes) -> int | None:
        """Return a blob's size, None if it is not stored. Raises: InvalidRequest."""
        try:
            return self._path(sha256).stat().st_size
        except FileNotFoundError:
            return None

    def path_of(self, sha256: bytes) -> Path:
        """Return where a stored blob is, to be read only. Raises: NotFound, InvalidRequest."""
        path = self._path(sha256)
        if not path.is_file():
            raise NotFound(f"no blob {sha256.hex()}")
        return path

    def missing(self, sha256s: Sequence[bytes]) -> list[bytes]:
        """Return the digests that are not stored, each once, in order. Raises: InvalidRequest."""
        return [one for one in dict.fromkeys(sha256s) if self.size_bytes(one) is None]

    async def write(self, sha256: bytes, size_bytes: int, chunks: AsyncIterator[bytes]) -> None:
        """Receive a blob completely or not at all; a stored one is not received again.

        Raises: InvalidRequest when size or digest differ from those announced; TooLarge;
        Overloaded; StoreUnavailable when the disk is full. No file is left after an error.
        """
        if size_bytes > self._max_blob_bytes:
            raise TooLarge(
                f"the blob is {size_bytes} bytes, {self._max_blob_bytes} are allowed",
                "raise limits.max_blob_bytes of the coordinator",
            )
        if self.size_bytes(sha256) is not None:
            return
        if self._writers >= self._max_writers:
            raise Overloaded(
                f"{self._writers} blobs are being received", "ask again when one is done"
            )
        self._writers += 1
        temporary = self._incoming / f"{sha256.hex()}.{secrets.token_hex(8)}"
        try:
            with _disk_errors(self._folder):
                await self._receive(temporary, sha256, size_bytes, chunks)
        finally:
            self._writers -= 1
            temporary.unlink(missing_ok=True)

    async def read(self, sha256: bytes, offset_bytes: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield a blob from ``offset_bytes`` on, in chunks of at most CHUNK_BYTES.

        Raises: NotFound; InvalidRequest when the offset lies behind its end.
        """
        size_bytes = self.size_bytes(sha256)
        if size_bytes is None:
            raise NotFound(f"there is no blob {sha256.hex()}", "import the model again")
        if offset_bytes > size_bytes:
            raise InvalidRequest(f"offset {offset_bytes} lies behind the end at {size_bytes}")
        with _disk_errors(self._folder):
            descriptor = await asyncio.to_thread(os.open, self._path(sha256), _READ)
            try:
                while chunk := await asyncio.to_thread(
                    os.pread, descriptor, CHUNK_BYTES, offset_bytes
                ):
                    yield chunk
                    offset_bytes += len(chunk)
            finally:
                os.close(descriptor)

    async def read_start(self, sha256: bytes, limit_bytes: int) -> bytes:
        """Return the first ``limit_bytes`` of a blob, or all if it is shorter. Raises: NotFound."""
        start = b""
        async with contextlib.aclosing(self.read(sha256)) as chunks:
            async for chunk in chunks:
                start += chunk
                if len(start) >= limit_bytes:
                    break
        return start[:limit_bytes]

    async def _receive(
        self, temporary: Path, sha256: bytes, size_bytes: int, chunks: AsyncIterator[bytes]
    ) -> None:
        _check_space(self._folder, size_bytes + self._reserve_bytes)
        hasher = hashlib.sha256()
        received_bytes = 0
        descriptor = await asyncio.to_thread(os.open, temporary, _CREATE, 0o600)
        try:
            async for chunk in chunks:
                received_bytes += len(chunk)
                if received_bytes > size_bytes:
                    raise InvalidRequest(f"more than the announced {size_bytes} bytes")
                await asyncio.to_thread(_append, descriptor, chunk)
                await asyncio.to_thread(hasher.update, chunk)
            if received_bytes != size_bytes:
                raise InvalidRequest(f"{received_bytes} bytes received, {size_bytes} announced")
            if hasher.digest() != sha256:
                raise InvalidRequest(
                    f"the data is not that of {sha256.hex()}", "read the file again and retry"
                )
            await asyncio.to_thread(os.fsync, descriptor)
        finally:
            os.close(descriptor)
        await asyncio.to_thread(self._publish, temporary, self._path(sha256))

    def _publish(self, temporary: Path, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.rename(path)
        for folder in (path.parent, path.parent.parent, self._folder):
            sync_folder(folder)

    def _path(self, sha256: bytes) -> Path:
        if len(sha256) != SHA256_BYTES:
            raise InvalidRequest(f"a blob's name is {SHA256_BYTES} bytes, not {len(sha256)}")
        name = sha256.hex()
        return self._folder / name[:2] / name[2:4] / name


_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def _append(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _check_space(folder: Path, needed_bytes: int) -> None:
    disk = os.statvfs(folder)
    free_bytes = disk.f_bavail * disk.f_frsize
    if free_bytes < needed_bytes:
        raise OSError(errno.ENOSPC, f"{free_bytes} bytes are free, {needed_bytes} are needed")


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Translate disk errors to StoreUnavailable, logged once for each blob."""
    try:
        yield
    except OSError as error:
        what = "is full" if error.errno in _FULL else "fails"
        _log.error("disk of the blobs %s folder=%s: %s", what, folder.name, error)
        raise StoreUnavailable(
            f"the disk of the coordinator's blobs {what}: {error.strerror}",
            "free space on it and ask again" if error.errno in _FULL else "check that disk",
        ) from error
