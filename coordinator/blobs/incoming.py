"""Uploads in progress: ``<folder>/<sha256>.<owner>.part`` keeps what was received of a blob.

A part outlives its client and this process. Its bytes are hashed again when they are continued
by a process that has not received them itself. Owners do not share parts: one that knew another's
digest could spoil its upload.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from coordinator.blobs.disk import READ, RESERVE_BYTES, check_space, disk_errors, in_thread, on_disk
from coordinator.blobs.interface import MAX_BLOB_BYTES, check_sha256
from coordinator.blobs.piece_hash import PieceHasher
from protos.domain.errors import Conflict, InvalidRequest, Overloaded, TooLarge

#: Longest wait for another client that uploads the same blob.
TURN_WAIT_S = 60.0
#: Hash states kept of parts that nobody continues now.
_MAX_STATES = 64
_REHASH_BYTES = 16 * 1024**2
_SUFFIX = ".part"
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class IncomingLimits(NamedTuple):
    """What uploads may take."""

    max_blob_bytes: int = MAX_BLOB_BYTES
    #: Blobs that may be received at once.
    max_writers: int = 8
    #: All unfinished uploads together.
    max_partial_bytes: int = 256 * 1024**3
    #: Blobs that one account may send at once: the others, and operators, find a place.
    max_writers_per_owner: int = 4
    #: Unfinished uploads of one account together.
    max_partial_bytes_per_owner: int = 128 * 1024**3
    #: Unfinished uploads of one owner.
    max_partials_per_owner: int = 64
    reserve_bytes: int = RESERVE_BYTES
    turn_wait_s: float = TURN_WAIT_S


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Partial:
    """One upload; used by one client at a time."""

    def __init__(self, path: Path, sha256: bytes) -> None:
        self.path = path
        self.sha256 = sha256
        self.hasher = PieceHasher()

    @property
    def received_bytes(self) -> int:
        return self.hasher.size_bytes

    async def load(self) -> None:
        """Hash what is on disk. Raises: StoreUnavailable."""
        self.hasher = PieceHasher()
        descriptor = await on_disk(self.path.parent, _open_if_there, self.path)
        if descriptor is None:
            return
        try:
            while await on_disk(self.path.parent, _hash_more, descriptor, self.hasher):
                pass
        finally:
            os.close(descriptor)

    async def restart(self) -> None:
        """Forget what was received."""
        self.hasher = PieceHasher()
        await on_disk(self.path.parent, self.path.unlink, missing_ok=True)

    async def take(self, size_bytes: int, chunks: AsyncIterator[bytes]) -> None:
        """Append ``chunks``.

        Raises: StoreUnavailable; InvalidRequest for more than ``size_bytes``.
        """
        descriptor = await on_disk(self.path.parent, os.open, self.path, _WRITE, 0o600)
        try:
            async for chunk in chunks:
                if self.received_bytes + len(chunk) > size_bytes:
                    await self.restart()
                    raise InvalidRequest(
                        f"more than the announced {size_bytes} bytes",
                        "read the file again and upload it from its start",
                    )
                await on_disk(self.path.parent, _write_and_hash, descriptor, chunk, self.hasher)
        finally:
            os.close(descriptor)

    async def finish(self) -> bytes:
        """Return the piece list of a complete part, which is on disk then.

        Raises: InvalidRequest when its digest is another one; then it is deleted.
        """
        if self.hasher.digest() != self.sha256:
            await self.restart()
            raise InvalidRequest(
                f"the data is not that of {self.sha256.hex()}; what was received is deleted",
                "read the file again and upload it from its start",
            )
        await on_disk(self.path.parent, _sync_file, self.path)
        return self.hasher.piece_list()


class Incoming:
    """The parts in one folder. Made by ``open``."""

    def __init__(self, folder: Path, limits: IncomingLimits) -> None:
        self._folder = folder
        self._limits = limits
        self._turns: dict[str, _Turn] = {}
        #: part -> hash state of what this process received of it, the latest last
        self._states: dict[str, PieceHasher] = {}
        #: part in progress -> bytes announced
        self._announced: dict[str, int] = {}
        self._receiving: dict[str, bytes] = {}

    @classmethod
    def open(cls, folder: Path, limits: IncomingLimits) -> Incoming:
        """Open ``folder``, made if missing; files that are no parts are deleted."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in folder.iterdir():
            if leftover.suffix != _SUFFIX:
                leftover.unlink()
        return cls(folder, limits)

    def check_size(self, size_bytes: int) -> None:
        """Raises: TooLarge."""
        if size_bytes > self._limits.max_blob_bytes:
            raise TooLarge(
                f"the blob is {size_bytes} bytes, {self._limits.max_blob_bytes} are allowed",
                "raise limits.max_blob_bytes of the coordinator",
            )

    def is_receiving(self, sha256: bytes) -> bool:
        """Return whether somebody uploads this blob now, or waits to."""
        return sha256 in self._receiving.values()

    async def received_bytes(self, sha256: bytes, owner: str) -> int:
        """Return how much of a blob ``owner`` has uploaded."""
        path = self._folder / _part_name(sha256, owner)
        return await on_disk(self._folder, _size_of, path)

    @contextlib.asynccontextmanager
    async def turn(self, sha256: bytes, owner: str) -> AsyncIterator[Partial]:
        """Have the part of ``owner`` alone. Raises: Overloaded when another client keeps it."""
        name = _part_name(sha256, owner)
        turn = self._turns.setdefault(name, _Turn())
        turn.users += 1
        self._receiving[name] = sha256
        try:
            try:
                async with asyncio.timeout(self._limits.turn_wait_s):
                    await turn.lock.acquire()
            except TimeoutError:
                raise Overloaded(
                    f"another client uploads {sha256.hex()}", "resume when it is done"
                ) from None
            partial = Partial(self._folder / name, sha256)
            try:
                yield partial
            finally:
                self._keep_state(name, partial)
                turn.lock.release()
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[name], self._receiving[name]

    async def receive(
        self,
        partial: Partial,
        size_bytes: int,
        offset_bytes: int | None,
        chunks: AsyncIterator[bytes],
        owner: str,
    ) -> bool:
        """Append to a part; return whether it is complete. From the start if the offset is None.

        Raises: StoreUnavailable, Conflict, InvalidRequest, Overloaded.
        """
        with self._slot(partial.path.name, size_bytes, owner):
            if is_whole := offset_bytes is None:
                await partial.restart()
                offset_bytes = 0
            else:
                await self._load(partial)
            if offset_bytes != partial.received_bytes:
                raise Conflict(
                    f"{partial.received_bytes} bytes of {partial.sha256.hex()} are here,"
                    f" the upload goes on at {offset_bytes}",
                    f"resume at {partial.received_bytes}",
                )
            await self._check_room(partial, size_bytes, owner)
            await partial.take(size_bytes, chunks)
            received_bytes = partial.received_bytes
            if is_whole and received_bytes != size_bytes:
                await partial.restart()
                raise InvalidRequest(f"{received_bytes} bytes received, {size_bytes} announced")
        return received_bytes == size_bytes

    async def drop_older(self, than_unix_ms: int) -> int:
        """Delete parts that were last written before; return their bytes."""
        with disk_errors(self._folder):
            parts = await in_thread(_parts_in, self._folder)
            dropped_bytes = 0
            for name, (size_bytes, written_unix_ms) in parts.items():
                if written_unix_ms < than_unix_ms and name not in self._turns:
                    self._states.pop(name, None)
                    # Without an await since the check: no client can have its turn between.
                    (self._folder / name).unlink(missing_ok=True)
                    dropped_bytes += size_bytes
        return dropped_bytes

    async def _load(self, partial: Partial) -> None:
        state = self._states.pop(partial.path.name, None)
        on_disk_bytes = await on_disk(self._folder, _size_of, partial.path)
        if state is not None and state.size_bytes == on_disk_bytes:
            partial.hasher = state
        else:
            await partial.load()

    def _keep_state(self, name: str, partial: Partial) -> None:
        if not partial.path.exists():
            self._states.pop(name, None)
        elif partial.received_bytes:
            self._states.pop(name, None)
            self._states[name] = partial.hasher
            while len(self._states) > _MAX_STATES:
                del self._states[next(iter(self._states))]

    @contextlib.contextmanager
    def _slot(self, name: str, size_bytes: int, owner: str) -> Iterator[None]:
        if len(self._announced) >= self._limits.max_writers:
            raise Overloaded(
                f"{len(self._announced)} blobs are being received", "ask again when one is done"
            )
        suffix = _suffix_of(owner)
        own = sum(one.endswith(suffix) for one in self._announced)
        if owner and own >= self._limits.max_writers_per_owner:
            raise Overloaded(
                f"{own} files of this account are being received", "ask again when one is done"
            )
        self._announced[name] = size_bytes
        try:
            yield
        finally:
            del self._announced[name]

    async def _check_room(self, partial: Partial, size_bytes: int, owner: str) -> None:
        """Raises: StoreUnavailable when the disk is too full; Overloaded."""
        limits, own = self._limits, partial.path.name
        needed_bytes = size_bytes - partial.received_bytes + limits.reserve_bytes
        await on_disk(self._folder, check_space, self._folder, needed_bytes)
        parts = await on_disk(self._folder, _parts_in, self._folder)
        taken = {name: part[0] for name, part in parts.items()} | self._announced
        if (taken_bytes := sum(taken.values())) > limits.max_partial_bytes:
            raise Overloaded(
                f"unfinished uploads would take {taken_bytes} bytes,"
                f" {limits.max_partial_bytes} are allowed (blobs.partial_max_bytes)",
                "finish those that have begun, or wait until they are dropped",
            )
        suffix = _suffix_of(owner)
        of_owner = {name: size for name, size in taken.items() if name.endswith(suffix)}
        own_bytes = sum(of_owner.values())
        if owner and own_bytes > limits.max_partial_bytes_per_owner:
            raise Overloaded(
                f"unfinished uploads of this account would take {own_bytes} bytes,"
                f" {limits.max_partial_bytes_per_owner} are allowed"
                " (blobs.partial_max_bytes_per_account)",
                "finish those that have begun, or wait until they are dropped",
            )
        others = len(of_owner.keys() - {own})
        if others >= limits.max_partials_per_owner:
            raise Overloaded(
                f"{others} uploads have begun and are not finished",
                "finish them first, or wait until they are dropped",
            )


def _part_name(sha256: bytes, owner: str) -> str:
    return check_sha256(sha256) + _suffix_of(owner)


def _suffix_of(owner: str) -> str:
    """Return the end of the names of all parts of an owner."""
    who = hashlib.sha256(owner.encode()).hexdigest()[:16] if owner else "operators"
    return f".{who}{_SUFFIX}"


def _open_if_there(path: Path) -> int | None:
    try:
        return os.open(path, READ)
    except FileNotFoundError:
        return None


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _parts_in(folder: Path) -> dict[str, tuple[int, int]]:
    """Return part -> its bytes and when it was last written."""
    parts = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                if entry.name.endswith(_SUFFIX):
                    parts[entry.name] = (found.st_size, found.st_mtime_ns // 1_000_000)
    return parts


def _hash_more(descriptor: int, hasher: PieceHasher) -> bool:
    data = os.read(descriptor, _REHASH_BYTES)
    hasher.update(data)
    return bool(data)


def _write_and_hash(descriptor: int, data: bytes, hasher: PieceHasher) -> None:
    """Write behind what is hashed; after an error the file holds no more than that."""
    start = hasher.size_bytes
    view = memoryview(data)
    try:
        while view:
            written = os.pwrite(descriptor, view, start + len(data) - len(view))
            view = view[written:]
    except OSError:
        os.ftruncate(descriptor, start)
        raise
    hasher.update(data)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, READ)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
