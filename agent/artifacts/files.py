"""Whole files from the coordinator, for those whose pieces it does not know.

Pulls resume, and a file gets its final name only after verification.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from weakref import WeakValueDictionary

from agent.artifacts.sources import DigestMismatch
from protos.domain.errors import LinkDown, StoreUnavailable
from protos.host.files import sync_folder

if TYPE_CHECKING:
    from protos.domain.resources import ModelFile

_log = logging.getLogger(__name__)

_READ_BYTES = 1024 * 1024

#: (sha256, offset) -> the file's bytes from there on.
Fetch = Callable[[bytes, int], AsyncIterator[bytes]]


class FileStore:
    """One folder of files named by their SHA-256, and one of unfinished pulls."""

    def __init__(self, folder: Path, fetch: Fetch, *, max_pulls: int) -> None:
        self._files = folder / "files"
        self._partial = folder / "partial"
        self._fetch = fetch
        self._pulls = asyncio.Semaphore(max_pulls)
        #: One pull for each digest at a time, whatever the file is called.
        self._locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self.pulled_bytes = 0

    def path_of(self, file: ModelFile) -> Path:
        """Return the path of the verified file, whether or not it exists yet."""
        return self._files / file.sha256.hex()

    async def ensure(self, file: ModelFile) -> Path:
        """Return the verified file, pulling what is missing.

        Raises: DigestMismatch; StoreUnavailable when the disk is full; LinkDown.
        """
        path = self.path_of(file)
        if path.is_file():
            return path
        lock = self._locks.setdefault(file.sha256, asyncio.Lock())
        async with lock, self._pulls:
            if path.is_file():
                return path
            try:
                return await self._pull(file, path)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise StoreUnavailable(
                        f"the disk is full: {file.path} needs {file.size_bytes} bytes",
                        "free space below the state folder; the pull then continues by itself",
                    ) from error
                raise

    async def _pull(self, file: ModelFile, path: Path) -> Path:
        for folder in (self._files, self._partial):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = self._partial / file.sha256.hex()
        digest, have_bytes = await asyncio.to_thread(_hash_existing, partial, file.size_bytes)
        with partial.open("ab") as target:
            if have_bytes < file.size_bytes:
                async for data in self._fetch(file.sha256, have_bytes):
                    have_bytes += len(data)
                    if have_bytes > file.size_bytes:
                        break
                    await asyncio.to_thread(_write, target, digest, data)
                    self.pulled_bytes += len(data)
        if have_bytes < file.size_bytes:
            raise LinkDown(f"{file.path}: {have_bytes} of {file.size_bytes} bytes came")
        if have_bytes > file.size_bytes or digest.digest() != file.sha256:
            partial.unlink(missing_ok=True)
            raise DigestMismatch(
                f"{file.path} is not the file its manifest names",
                "it is pulled again from the start",
            )
        await asyncio.to_thread(_publish, partial, path)
        return path


def _hash_existing(partial: Path, size_bytes: int) -> tuple[hashlib._Hash, int]:
    """Return digest and length of what an earlier pull wrote."""
    digest = hashlib.sha256()
    if not partial.is_file():
        return digest, 0
    if partial.stat().st_size > size_bytes:
        partial.unlink()
        return digest, 0
    have_bytes = 0
    with partial.open("rb") as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
            have_bytes += len(data)
    return digest, have_bytes


def _write(target: BinaryIO, digest: hashlib._Hash, data: bytes) -> None:
    digest.update(data)
    target.write(data)


def _publish(partial: Path, path: Path) -> None:
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.rename(path)
    sync_folder(path.parent)
