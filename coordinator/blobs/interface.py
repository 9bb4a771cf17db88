"""What every store of blobs does: content-addressed bytes, uploads that resume, piece lists.

A blob is named by its SHA-256, which is checked over all bytes before the blob can be read.
``folder.py`` keeps blobs in a folder, ``object_store.py`` in any S3-compatible store.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from protos.domain.errors import InvalidRequest

if TYPE_CHECKING:
    import asyncio
    from contextlib import AbstractAsyncContextManager

    from coordinator.core.blob_gc import StoredBlob

SHA256_BYTES: Final = 32
CHUNK_BYTES: Final = 1024 * 1024
MAX_BLOB_BYTES: Final = 64 * 1024**3
#: Imported models that may be tried at once.
MAX_TRIALS: Final = 1


class BlobStore(Protocol):
    """Blobs by SHA-256; used from one event loop.

    Each method raises InvalidRequest for a name that is no SHA-256, and StoreUnavailable
    (retryable) while the disk or the object store cannot be used.
    """

    #: Held while a model's files are tried: one trial takes a core and much memory.
    trial_place: asyncio.Semaphore

    async def size_bytes(self, sha256: bytes) -> int | None:
        """Return a blob's size, None if it is not stored."""
        ...

    async def missing(self, sha256s: Sequence[bytes]) -> list[bytes]:
        """Return the digests that are not stored, each once, in order.

        Those that are stored count as touched: they stay for the grace time of the collection.
        """
        ...

    async def received_bytes(self, sha256: bytes, *, owner: str = "", proving: bool = False) -> int:
        """Return where ``owner`` resumes an upload: its size if stored, 0 if it has not begun.

        ``proving``: an owner who may not know of a stored blob sends all of it, and is answered in
        everything as if it were not stored.
        An upload of all bytes that is not stored yet ends with an ``append`` of no chunks.
        """
        ...

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
        """Continue an upload at ``offset_bytes``; return how many bytes have been received.

        ``size_bytes`` means that the blob is stored. What was received before an error or a
        cancellation stays, and any client of ``owner`` may continue it. One client at a time:
        another one waits. Raises: Conflict when ``offset_bytes`` is not ``received_bytes``;
        InvalidRequest when the bytes are not those of ``sha256``, which deletes them; TooLarge;
        Overloaded.
        """
        ...

    async def write(
        self,
        sha256: bytes,
        size_bytes: int,
        chunks: AsyncIterator[bytes],
        *,
        owner: str = "",
        proving: bool = False,
    ) -> None:
        """Receive a whole blob from its first byte on; a stored one only if it is proved.

        Raises: as ``append``; InvalidRequest when ``chunks`` ends early, which deletes them.
        """
        ...

    def read(
        self, sha256: bytes, offset_bytes: int = 0, length_bytes: int = 0
    ) -> AsyncGenerator[bytes, None]:
        """Yield ``length_bytes`` from ``offset_bytes`` on, 0 for all, in chunks of CHUNK_BYTES.

        Ends early at the end of the blob. Raises: NotFound; InvalidRequest when the offset lies
        behind the end.
        """
        ...

    async def read_start(self, sha256: bytes, limit_bytes: int) -> bytes:
        """Return the first ``limit_bytes`` of a blob, or all if it is shorter. Raises: NotFound."""
        ...

    async def piece_list(self, sha256: bytes) -> bytes:
        """Return the digests of the blob's pieces, one after the other; see ``domain.pieces``.

        Computed and stored when a blob of an earlier version has none. Raises: NotFound.
        """
        ...

    def local_copy(self, sha256: bytes) -> AbstractAsyncContextManager[Path]:
        """Hold a file with the blob's bytes, to be read only. Raises: NotFound, Overloaded."""
        ...

    def leased(self, sha256s: Sequence[bytes]) -> AbstractAsyncContextManager[None]:
        """Keep blobs from being removed meanwhile, whether they are stored yet or not."""
        ...

    async def list_all(self) -> list[StoredBlob]:
        """Return every stored blob."""
        ...

    async def remove(self, blob: StoredBlob, may_go: Callable[[], bool]) -> bool:
        """Delete a listed blob if ``may_go()`` at that moment; return whether it was deleted.

        One that is leased, being received, or was touched since it was listed, stays.
        """
        ...

    async def drop_partials(self, older_than_unix_ms: int) -> int:
        """Delete uploads that nobody has continued since; return their bytes."""
        ...


def check_sha256(sha256: bytes) -> str:
    """Return a blob's name in hex. Raises: InvalidRequest."""
    if len(sha256) != SHA256_BYTES:
        raise InvalidRequest(f"a blob's name is {SHA256_BYTES} bytes, not {len(sha256)}")
    return sha256.hex()
