"""Files of this machine with the bytes of blobs that are stored elsewhere, bounded in all."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import IO

from coordinator.blobs.disk import RESERVE_BYTES, check_space, on_disk
from protos.domain.errors import Overloaded, StoreUnavailable, TooLarge

_Read = Callable[[bytes], AsyncGenerator[bytes, None]]


class LocalCopies:
    """Copies in one folder, emptied when it is opened. The longest unused goes first."""

    def __init__(self, folder: Path, max_bytes: int, read: _Read) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._read = read
        #: blob -> bytes of its copy, the latest used last
        self._sizes: dict[bytes, int] = {}
        self._held: Counter[bytes] = Counter()
        self._fetching = asyncio.Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in folder.iterdir():
            leftover.unlink()

    @contextlib.asynccontextmanager
    async def hold(self, sha256: bytes, size_bytes: int) -> AsyncIterator[Path]:
        """Keep a copy meanwhile. Raises: TooLarge, Overloaded, NotFound, StoreUnavailable."""
        path = self._folder / sha256.hex()
        self._held[sha256] += 1
        try:
            async with self._fetching:
                if sha256 not in self._sizes:
                    await self._make_room(size_bytes)
                    await self._fetch(sha256, size_bytes, path)
                self._sizes[sha256] = self._sizes.pop(sha256, size_bytes)
            yield path
        finally:
            self._held[sha256] -= 1
            if not self._held[sha256]:
                del self._held[sha256]

    async def _make_room(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise TooLarge(
                f"a local copy of {size_bytes} bytes is above {self._max_bytes}",
                "raise blobs.local_copy_max_bytes of the coordinator",
            )
        for sha256 in [one for one in self._sizes if one not in self._held]:
            if sum(self._sizes.values()) + size_bytes <= self._max_bytes:
                break
            del self._sizes[sha256]
            await on_disk(self._folder, (self._folder / sha256.hex()).unlink)
        if sum(self._sizes.values()) + size_bytes > self._max_bytes:
            raise Overloaded("the local copies of blobs are all in use", "ask again in a moment")
        await on_disk(self._folder, check_space, self._folder, size_bytes + RESERVE_BYTES)

    async def _fetch(self, sha256: bytes, size_bytes: int, path: Path) -> None:
        partial = path.with_name(path.name + ".partial")
        hasher = hashlib.sha256()
        file: IO[bytes] = await on_disk(self._folder, partial.open, "wb")
        try:
            with file:
                async with contextlib.aclosing(self._read(sha256)) as chunks:
                    async for chunk in chunks:
                        await on_disk(self._folder, file.write, chunk)
                        hasher.update(chunk)
            if hasher.digest() != sha256:
                raise StoreUnavailable(
                    f"the stored blob {sha256.hex()} is damaged",
                    "delete it from the bucket and import the model again",
                    retryable=False,
                )
            partial.chmod(0o600)
            partial.rename(path)
            self._sizes[sha256] = size_bytes
        finally:
            partial.unlink(missing_ok=True)
