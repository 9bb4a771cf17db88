"""The models and adapters on this disk: what they take, who uses them, and what leaves for others.

Objects are folders of links to files named by digest, so that a file of several is there once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.eviction import StoredObject, plan_eviction, used_bytes
from protos.domain.errors import StoreUnavailable
from protos.host.files import sync_folder

if TYPE_CHECKING:
    from protos.domain.resources import ModelFile

#: Of what the store has and what is free, so much may be used unless a quota is configured.
_DEFAULT_SHARE = 0.9
#: What an ended pull left is kept for so long, unless its space is needed.
_PARTIAL_AGE_MS = 3 * 86_400_000.0
_PARTIAL_SUFFIX = ".partial"
_GONE_SUFFIX = ".gone"


@dataclass(frozen=True, slots=True)
class DiskState:
    """What ``Status.disk`` reports. ``trouble`` is empty, or what an operator must know."""

    quota_bytes: int
    used_bytes: int
    pinned_bytes: int
    trouble: str = ""


@dataclass(slots=True)
class _Object:
    path: Path
    files: dict[bytes, int]
    used_unix_ms: float
    holders: int = 0


@dataclass(slots=True)
class ModelDisk:
    """The published objects below ``objects``, and their files below ``files``.

    ``load``, ``make_room`` and ``publish`` block; the rest does not touch the disk. Locked.
    """

    objects: Path
    files: Path
    partial: Path
    quota_bytes: int
    now_unix_ms: Callable[[], float]
    _by_path: dict[Path, _Object] = field(default_factory=dict)
    #: Files that are being pulled, by the folder that they are for.
    _incoming: dict[Path, dict[bytes, int]] = field(default_factory=dict)
    _pinned: frozenset[Path] = frozenset()
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def lists(self) -> Path:
        """The folder of the files' piece lists."""
        return self.files.with_name("lists")

    def load(self) -> None:
        """Read what earlier runs left, and delete what is in no object."""
        for folder in (self.objects, self.files, self.partial, self.lists):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._lock:
            by_inode = {one.stat().st_ino: one for one in self.files.iterdir() if one.is_file()}
            for path in self.objects.iterdir():
                if path.name.endswith((_PARTIAL_SUFFIX, _GONE_SUFFIX)):
                    shutil.rmtree(path, ignore_errors=True)
                elif path.is_dir() and not path.is_symlink():
                    self._by_path[path] = _Object(
                        path, _files_of(path, by_inode), path.stat().st_mtime * 1_000
                    )
            self._delete_loose(_PARTIAL_AGE_MS)

    def has(self, path: Path) -> bool:
        """Return whether an object is there, whole. Hot."""
        return path in self._by_path

    def hold(self, path: Path) -> None:
        """Keep an object until it is released as often."""
        with self._lock:
            if (one := self._by_path.get(path)) is not None:
                one.holders += 1
                one.used_unix_ms = self.now_unix_ms()

    def release(self, path: Path) -> None:
        """Give back a hold."""
        with self._lock:
            if (one := self._by_path.get(path)) is not None and one.holders:
                one.holders -= 1
                one.used_unix_ms = self.now_unix_ms()

    def used(self, path: Path) -> None:
        """Note that an object is used now, for this and for later runs. Blocking."""
        with self._lock:
            if (one := self._by_path.get(path)) is not None:
                one.used_unix_ms = self.now_unix_ms()
                os.utime(path, (one.used_unix_ms / 1_000,) * 2)

    def pin(self, paths: frozenset[Path]) -> None:
        """Take which objects are never evicted, besides those that are held."""
        self._pinned = paths

    def state(self, trouble: str) -> DiskState:
        """Return the figures; one ``statvfs``."""
        with self._lock:
            stored = self._stored()
            return DiskState(
                self._quota(),
                used_bytes(stored),
                used_bytes(one for one in stored if one.pinned),
                trouble,
            )

    def make_room(self, name: str, path: Path, files: Mapping[bytes, int]) -> list[Path]:
        """Evict what must leave for ``files``, and count them from now on; return what left.

        Raises: StoreUnavailable with numbers if they do not fit whatever leaves.
        """
        with self._lock:
            stored = self._stored()
            self._delete_partials(_PARTIAL_AGE_MS)
            quota_bytes = self._quota()
            plan = plan_eviction(stored, files, quota_bytes)
            if plan.short_bytes:
                self._delete_partials(0.0)
                self._delete_loose(0.0)
                quota_bytes = self._quota()
                plan = plan_eviction(stored, files, quota_bytes)
            if plan.short_bytes:
                pinned_bytes = used_bytes(one for one in stored if one.pinned)
                raise StoreUnavailable(
                    f"{name} needs {sum(files.values())} bytes of disk and {plan.short_bytes} are"
                    f" missing: the quota is {quota_bytes}, of which {pinned_bytes} are hot, held"
                    " by an engine or being pulled",
                    "raise artifacts.quota_gib, free space below the state folder, or place fewer"
                    " models here",
                )
            gone = [Path(key) for key in plan.keys]
            for one in gone:
                self._remove(one)
            self._incoming[path] = dict(files)
            return gone

    def forget_incoming(self, path: Path) -> None:
        """A pull has ended, with or without its object."""
        with self._lock:
            self._incoming.pop(path, None)

    def publish(self, path: Path, files: tuple[ModelFile, ...]) -> None:
        """Make an object's folder of links to its files, by one rename. Raises: OSError."""
        with self._lock:
            partial = path.with_name(path.name + _PARTIAL_SUFFIX)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True, mode=0o700)
            for file in files:
                target = partial / file.path
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.link(self.files / file.sha256.hex(), target)
            partial.rename(path)
            sync_folder(path.parent)
            sizes = {file.sha256: file.size_bytes for file in files}
            self._by_path[path] = _Object(path, sizes, self.now_unix_ms())
            self._incoming.pop(path, None)

    # -- inside, locked --------------------------------------------------------------------------

    def _stored(self) -> list[StoredObject]:
        stored = [
            StoredObject(
                str(one.path),
                one.files,
                one.used_unix_ms,
                bool(one.holders) or path in self._pinned,
            )
            for path, one in self._by_path.items()
        ]
        stored += [
            StoredObject(str(path), files, 0.0, pinned=True)
            for path, files in self._incoming.items()
        ]
        return stored

    def _quota(self) -> int:
        """Return what may be used: the configured quota, but not more than there is."""
        disk = os.statvfs(self.objects)
        published = [
            StoredObject(str(one.path), one.files, one.used_unix_ms)
            for one in self._by_path.values()
        ]
        ours_bytes = used_bytes(published) + sum(
            stat.st_blocks * 512 for _, stat in _files_in(self.partial)
        )
        there_bytes = int((ours_bytes + disk.f_bavail * disk.f_frsize) * _DEFAULT_SHARE)
        return min(self.quota_bytes, there_bytes) if self.quota_bytes else there_bytes

    def _remove(self, path: Path) -> None:
        gone = path.with_name(path.name + _GONE_SUFFIX)
        path.rename(gone)
        files = self._by_path.pop(path).files
        shutil.rmtree(gone, ignore_errors=True)
        kept = self._wanted().union(
            digest.hex() for one in self._by_path.values() for digest in one.files
        )
        for digest in files:
            if digest.hex() not in kept:
                self._unlink(digest.hex())

    def _wanted(self) -> set[str]:
        return {digest.hex() for files in self._incoming.values() for digest in files}

    def _delete_loose(self, least_age_ms: float) -> None:
        """Delete files that no object links to and no pull is for."""
        wanted = self._wanted()
        for one, stat in _files_in(self.files):
            age_ms = self.now_unix_ms() - stat.st_mtime * 1_000
            if one.name not in wanted and stat.st_nlink == 1 and age_ms >= least_age_ms:
                self._unlink(one.name)

    def _unlink(self, digest: str) -> None:
        (self.files / digest).unlink(missing_ok=True)
        (self.lists / digest).unlink(missing_ok=True)

    def _delete_partials(self, least_age_ms: float) -> None:
        """Delete what unfinished pulls left that nobody goes on with."""
        wanted = self._wanted()
        for one, stat in _files_in(self.partial):
            age_ms = self.now_unix_ms() - stat.st_mtime * 1_000
            if one.name.partition(".")[0] not in wanted and age_ms >= least_age_ms:
                one.unlink(missing_ok=True)


def _files_in(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the files of a folder; pulls add and rename some meanwhile."""
    for one in list(folder.iterdir()):
        with contextlib.suppress(FileNotFoundError):
            yield one, one.stat()


def _files_of(folder: Path, by_inode: Mapping[int, Path]) -> dict[bytes, int]:
    found = {}
    for one in folder.rglob("*"):
        if one.is_file():
            stat = one.stat()
            file = by_inode.get(stat.st_ino)
            if file is not None:
                found[bytes.fromhex(file.name)] = stat.st_size
    return found
