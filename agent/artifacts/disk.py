"""The models and adapters on this disk: what they take, who uses them, and what leaves for others.

Objects are folders of links to files named by digest, so that a file of several is there once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat as modes
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.eviction import EvictionPlan, StoredObject, plan_eviction, used_bytes
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


@dataclass(slots=True)
class ModelDisk:
    """The published objects below ``objects``, and their files below ``files``.

    ``load``, ``make_room`` and ``publish`` block, one at a time; who else asks never waits for
    them, since what they decide is noted before it is done.
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
    #: Who uses an object, also one that is only coming.
    _holders: Counter[Path] = field(default_factory=Counter)
    #: Of what is noted here: never kept while files are deleted or linked.
    _lock: threading.RLock = field(default_factory=threading.RLock)
    #: Of what is deleted and linked.
    _work: threading.Lock = field(default_factory=threading.Lock)

    @property
    def lists(self) -> Path:
        """The folder of the files' piece lists."""
        return self.files.with_name("lists")

    def load(self) -> None:
        """Read what earlier runs left, and delete what is in no object."""
        for folder in (self.objects, self.files, self.partial, self.lists):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._work, self._lock:
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
        """Keep an object, also one that is not here yet, until it is released as often."""
        with self._lock:
            self._holders[path] += 1
            if (one := self._by_path.get(path)) is not None:
                one.used_unix_ms = self.now_unix_ms()

    def release(self, path: Path) -> None:
        """Give back a hold."""
        with self._lock:
            self._holders[path] -= 1
            if self._holders[path] <= 0:
                del self._holders[path]
            if (one := self._by_path.get(path)) is not None:
                one.used_unix_ms = self.now_unix_ms()

    def used(self, path: Path) -> bool:
        """Note that an object is used now, for this and for later runs. Blocking.

        Return whether it is there: somebody may have removed its folder.
        """
        with self._lock:
            if (one := self._by_path.get(path)) is None:
                return False
            one.used_unix_ms = self.now_unix_ms()
        try:
            os.utime(path, (one.used_unix_ms / 1_000,) * 2)
        except FileNotFoundError:
            with self._lock:
                self._by_path.pop(path, None)
            return False
        except OSError:
            pass  # a disk that takes no writes any more can still be read
        return True

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
        with self._work:
            self._delete_partials(_PARTIAL_AGE_MS)
            plan, gone = self._claim(path, files)
            if plan.short_bytes:
                self._delete_partials(0.0)
                self._delete_loose(0.0)
                plan, gone = self._claim(path, files)
            if plan.short_bytes:
                state = self.state("")
                raise StoreUnavailable(
                    f"{name} needs {sum(files.values())} bytes of disk and {plan.short_bytes} are"
                    f" missing: the quota is {state.quota_bytes}, of which {state.pinned_bytes} are"
                    " hot, held by an engine or being pulled",
                    "raise artifacts.quota_gib, free space below the state folder, or place fewer"
                    " models here",
                )
            for one in gone:
                self._delete(one)
            return [one.path for one in gone]

    def evacuate(self, path: Path, digests: Collection[bytes]) -> bool:
        """Delete an object, and what was pulled of its files ``digests``; blocking.

        False while it is held or pulled; files of other objects stay. Raises: OSError.
        """
        with self._work:
            with self._lock:
                if path in self._holders or path in self._incoming:
                    return False
                gone = self._by_path.pop(path, None)
            if gone is not None:
                self._delete(gone)
            kept = self._wanted()
            with self._lock:
                kept |= {digest.hex() for one in self._by_path.values() for digest in one.files}
            names = {digest.hex() for digest in digests} - kept
            for name in names:
                self._unlink(name)
            for one, _ in _files_in(self.partial):
                if one.name.partition(".")[0] in names:
                    one.unlink(missing_ok=True)
            return True

    def forget_incoming(self, path: Path) -> None:
        """A pull has ended, with or without its object."""
        with self._lock:
            self._incoming.pop(path, None)

    def publish(self, path: Path, files: tuple[ModelFile, ...]) -> None:
        """Make an object's folder of links to its files, by one rename. Raises: OSError."""
        with self._work:
            partial = path.with_name(path.name + _PARTIAL_SUFFIX)
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True, mode=0o700)
            for file in files:
                target = partial / file.path
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.link(self.files / file.sha256.hex(), target)
            # a folder that is there after a loss of power has all its files
            for folder in {(partial / file.path).parent for file in files} | {partial}:
                sync_folder(folder)
            shutil.rmtree(path, ignore_errors=True)
            partial.rename(path)
            sync_folder(path.parent)
            sizes = {file.sha256: file.size_bytes for file in files}
            with self._lock:
                self._by_path[path] = _Object(path, sizes, self.now_unix_ms())
                self._incoming.pop(path, None)

    # -- inside ----------------------------------------------------------------------------------

    def _claim(self, path: Path, files: Mapping[bytes, int]) -> tuple[EvictionPlan, list[_Object]]:
        """Plan; if ``files`` fit, reserve them and mark what leaves: it can be held no more."""
        with self._lock:
            plan = plan_eviction(self._stored(), files, self._quota())
            if plan.short_bytes:
                return plan, []
            self._incoming[path] = dict(files)
            return plan, [self._by_path.pop(Path(key)) for key in plan.keys]

    def _stored(self) -> list[StoredObject]:
        stored = [
            StoredObject(
                str(one.path),
                one.files,
                one.used_unix_ms,
                path in self._holders or path in self._pinned,
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

    def _delete(self, gone: _Object) -> None:
        aside = gone.path.with_name(gone.path.name + _GONE_SUFFIX)
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            gone.path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)
        kept = self._wanted()
        with self._lock:
            kept |= {digest.hex() for one in self._by_path.values() for digest in one.files}
        for digest in gone.files:
            if digest.hex() not in kept:
                self._unlink(digest.hex())

    def _wanted(self) -> set[str]:
        with self._lock:
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
        """Delete the partial files of pulls that are not continued."""
        wanted = self._wanted()
        for one, stat in _files_in(self.partial):
            age_ms = self.now_unix_ms() - stat.st_mtime * 1_000
            if one.name.partition(".")[0] not in wanted and age_ms >= least_age_ms:
                one.unlink(missing_ok=True)


def _files_in(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the files of a folder; pulls add and rename some meanwhile."""
    for one in list(folder.iterdir()):
        with contextlib.suppress(FileNotFoundError):
            stat = one.lstat()
            if modes.S_ISREG(stat.st_mode):
                yield one, stat


def _files_of(folder: Path, by_inode: Mapping[int, Path]) -> dict[bytes, int]:
    found = {}
    for one in folder.rglob("*"):
        if one.is_file():
            stat = one.stat()
            file = by_inode.get(stat.st_ino)
            if file is not None:
                found[bytes.fromhex(file.name)] = stat.st_size
    return found
