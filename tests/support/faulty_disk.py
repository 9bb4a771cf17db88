"""A disk on which the calls of the system fail as a test says."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from agent.spool.disk import Disk


class FaultyDisk(Disk):
    """``fail[name]`` is how many of the next calls of that name fail, with ``code``."""

    def __init__(self) -> None:
        self.fail: dict[str, int] = {}
        self.code = errno.EIO
        self.calls: list[str] = []
        #: Bytes that files may be allocated with in all; None: as many as wanted.
        self.room_bytes: int | None = None
        self._sizes: dict[Path, int] = {}
        #: Writes are not stored although they succeed.
        self.forgets = False

    def _maybe(self, name: str) -> None:
        self.calls.append(name)
        left = self.fail.get(name, 0)
        if left:
            self.fail[name] = left - 1
            raise OSError(self.code, os.strerror(self.code))

    def create(self, path: Path, size_bytes: int) -> int:
        self._maybe("create")
        held = sum(size for one, size in self._sizes.items() if one.exists())
        if self.room_bytes is not None and held + size_bytes > self.room_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._sizes[path] = size_bytes
        return super().create(path, size_bytes)

    def write(self, fd: int, data: bytes, offset: int) -> None:
        self._maybe("write")
        if not self.forgets:
            super().write(fd, data, offset)

    def write_through(self, fd: int, data: bytes, offset: int) -> None:
        self._maybe("write")
        self._maybe("sync")
        if not self.forgets:
            super().write_through(fd, data, offset)

    def sync(self, fd: int) -> None:
        self._maybe("sync")
        super().sync(fd)

    def append(self, fd: int, data: bytes) -> None:
        self._maybe("append")
        super().append(fd, data)

    def rename(self, old: Path, new: Path) -> None:
        self._maybe("rename")
        super().rename(old, new)
