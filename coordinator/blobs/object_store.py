"""Blobs in any S3-compatible store, through ``obstore``.

``<prefix>/blobs/<sha256>`` holds a blob, ``<prefix>/pieces/<sha256>`` the digests of its pieces if
it has more than one. An upload is received into a local file first, where it can be resumed and is
hashed; it is sent on only when its digest is right, by one multipart upload that becomes visible
as a whole. A name in the bucket therefore never holds wrong bytes.

Objects have no time that could be set: which blobs were found is kept in memory, and every blob
counts as touched when the store is opened.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from coordinator.blobs.base import BlobStoreBase, no_blob
from coordinator.blobs.disk import on_disk
from coordinator.blobs.incoming import Incoming, IncomingLimits
from coordinator.blobs.interface import CHUNK_BYTES, SHA256_BYTES, check_sha256
from coordinator.blobs.local_copies import LocalCopies
from coordinator.core.blob_gc import StoredBlob
from protos.domain.errors import InvalidRequest, StoreUnavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_log = logging.getLogger(__name__)

#: Bytes asked for at once; a request of its own each, so that no reader is bound by one timeout.
_RANGE_BYTES = 8 * CHUNK_BYTES
#: S3 takes at most 10,000 parts: enough for 160 GiB. Four in memory at once.
_PART_BYTES = 16 * CHUNK_BYTES
_MAX_PARTS_AT_ONCE = 4
#: Complete uploads on their way to the bucket at once; others wait.
_MAX_SENT_AT_ONCE = 2
_BLOBS = "blobs/"
_PIECES = "pieces/"
_MAX_REASON_CHARS = 300


class ObjectBlobStore(BlobStoreBase):
    """A ``BlobStore`` in a bucket. Used from one event loop."""

    def __init__(
        self,
        store: ObjectStore,
        spool: Path,
        *,
        limits: IncomingLimits,
        max_copies_bytes: int,
        now_unix_ms: Callable[[], int],
    ) -> None:
        """``store`` is a client for the prefix; ``spool`` a local folder for what is received."""
        super().__init__(Incoming.open(spool / "incoming", limits))
        self._store = store
        self._spool = spool
        self._copies = LocalCopies(spool / "copies", max_copies_bytes, self.read)
        self._sending = asyncio.Semaphore(_MAX_SENT_AT_ONCE)
        self._now_unix_ms = now_unix_ms
        self._opened_unix_ms = now_unix_ms()
        self._touched_unix_ms: dict[bytes, int] = {}

    async def check(self) -> None:
        """Raises: StoreUnavailable; not retryable when credentials or bucket are wrong."""
        with _store_errors():
            async for _ in obstore.list(self._store, _BLOBS, chunk_size=1):
                break

    async def size_bytes(self, sha256: bytes) -> int | None:
        """Return a blob's size, None if it is not stored."""
        name = check_sha256(sha256)
        with _store_errors():
            try:
                return (await obstore.head_async(self._store, _BLOBS + name))["size"]
            except FileNotFoundError:
                return None

    async def read(
        self, sha256: bytes, offset_bytes: int = 0, length_bytes: int = 0
    ) -> AsyncGenerator[bytes, None]:
        """Yield a part of a blob. Raises: NotFound, also when it is removed meanwhile."""
        size_bytes = await self.size_bytes(sha256)
        if size_bytes is None:
            raise no_blob(sha256)
        if offset_bytes > size_bytes:
            raise InvalidRequest(f"offset {offset_bytes} lies behind the end at {size_bytes}")
        end = min(size_bytes, offset_bytes + length_bytes) if length_bytes else size_bytes
        while offset_bytes < end:
            range_end = min(end, offset_bytes + _RANGE_BYTES)
            data = await self._range(sha256, offset_bytes, range_end)
            for at in range(0, len(data), CHUNK_BYTES):
                yield data[at : at + CHUNK_BYTES]
            offset_bytes = range_end

    @contextlib.asynccontextmanager
    async def local_copy(self, sha256: bytes) -> AsyncIterator[Path]:
        """Hold a file of this machine with the blob's bytes, to be read only."""
        async with self._leases.hold((sha256,)):
            size_bytes = await self.size_bytes(sha256)
            if size_bytes is None:
                raise no_blob(sha256)
            async with self._copies.hold(sha256, size_bytes) as path:
                yield path

    async def list_all(self) -> list[StoredBlob]:
        """Return every stored blob."""
        found: dict[bytes, StoredBlob] = {}
        with _store_errors():
            async for batch in obstore.list(self._store, _BLOBS):
                for meta in batch:
                    name = meta["path"].rpartition("/")[2]
                    with contextlib.suppress(ValueError):
                        sha256 = bytes.fromhex(name)
                        touched_unix_ms = max(
                            int(meta["last_modified"].timestamp() * 1_000),
                            self._touched_unix_ms.get(sha256, 0),
                            self._opened_unix_ms,
                        )
                        if len(sha256) == SHA256_BYTES:
                            found[sha256] = StoredBlob(sha256, meta["size"], touched_unix_ms)
        return list(found.values())

    async def _touch(self, sha256: bytes) -> bool:
        if await self.size_bytes(sha256) is None:
            return False
        self._touched_unix_ms[sha256] = self._now_unix_ms()
        return True

    async def _last_touch(self, sha256: bytes) -> int:
        return self._touched_unix_ms.get(sha256, 0)

    async def _publish(self, part: Path, sha256: bytes, piece_list: bytes) -> None:
        if len(piece_list) > SHA256_BYTES:
            await self._store_pieces(sha256, piece_list)
        async with self._sending:
            with _store_errors():
                await obstore.put_async(
                    self._store,
                    _BLOBS + sha256.hex(),
                    part,
                    chunk_size=_PART_BYTES,
                    max_concurrency=_MAX_PARTS_AT_ONCE,
                )
        self._touched_unix_ms[sha256] = self._now_unix_ms()
        await on_disk(self._spool, part.unlink)

    async def _delete(self, sha256: bytes) -> bool:
        if await self.size_bytes(sha256) is None:
            return False
        name = sha256.hex()
        with _store_errors():
            for key in (_PIECES + name, _BLOBS + name):
                with contextlib.suppress(FileNotFoundError):
                    await obstore.delete_async(self._store, key)
        self._touched_unix_ms.pop(sha256, None)
        return True

    async def _stored_pieces(self, sha256: bytes) -> bytes:
        with _store_errors():
            try:
                found = await obstore.get_async(self._store, _PIECES + sha256.hex())
                return bytes(await found.bytes_async())
            except FileNotFoundError:
                return b""

    async def _store_pieces(self, sha256: bytes, piece_list: bytes) -> None:
        with _store_errors():
            await obstore.put_async(self._store, _PIECES + sha256.hex(), piece_list)

    async def _range(self, sha256: bytes, start: int, end: int) -> bytes:
        with _store_errors():
            try:
                key = _BLOBS + sha256.hex()
                data = bytes(await obstore.get_range_async(self._store, key, start=start, end=end))
            except FileNotFoundError:
                raise no_blob(sha256) from None
        if len(data) != end - start:
            raise StoreUnavailable(f"the object store sent {len(data)} of {end - start} bytes")
        return data


@contextlib.contextmanager
def _store_errors() -> Iterator[None]:
    """Translate errors of the object store to StoreUnavailable, each logged."""
    try:
        yield
    except (BaseError, OSError) as error:
        reason = str(error).partition("\n")[0][:_MAX_REASON_CHARS]
        text = str(error)
        _log.error("object store fails: %s", reason)
        refused = isinstance(error, PermissionDeniedError | UnauthenticatedError)
        if refused or "403 Forbidden" in text or "401 Unauthorized" in text:
            raise StoreUnavailable(
                "the object store refuses the coordinator's credentials",
                "check blobs.credentials_file or AWS_ACCESS_KEY_ID, and what the key may do",
                retryable=False,
            ) from error
        if "NoSuchBucket" in text:
            raise StoreUnavailable(
                "the bucket of blobs.url does not exist",
                "make it, or mend the name",
                retryable=False,
            ) from error
        raise StoreUnavailable(
            "the object store of the blobs cannot be reached or fails",
            "check blobs.url and blobs.endpoint, and that the store is up; then ask again",
        ) from error
