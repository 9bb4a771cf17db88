"""Keeps the collection of unnamed blobs away from those that are about to be named."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence


class Leases:
    """Blobs that may not be removed now. A lease waits for a removal in progress to end."""

    def __init__(self) -> None:
        self._held: Counter[bytes] = Counter()
        self._removal = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def hold(self, sha256s: Sequence[bytes]) -> AsyncIterator[None]:
        """Lease blobs; one may be leased by several at once."""
        names = tuple(dict.fromkeys(sha256s))
        async with self._removal:
            self._held.update(names)
        try:
            yield
        finally:
            for name in names:
                self._held[name] -= 1
                if not self._held[name]:
                    del self._held[name]

    def is_held(self, sha256: bytes) -> bool:
        """Return whether a blob is leased."""
        return sha256 in self._held

    @contextlib.asynccontextmanager
    async def removal(self) -> AsyncIterator[None]:
        """Hold while a blob is removed: nothing becomes leased meanwhile."""
        async with self._removal:
            yield
