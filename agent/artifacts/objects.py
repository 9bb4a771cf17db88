"""Models and adapters on this host's disk: pulled in pieces, verified before use, never twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from agent.artifacts.evacuation import Evacuation
from agent.artifacts.object_pull import ObjectPull
from agent.artifacts.orders import (
    Held as Held,
)
from agent.artifacts.orders import (
    check_order,
    disk_errors,
    folder_of,
    has_files,
    in_pieces,
    total_bytes,
)
from agent.artifacts.orders import (
    name_of as name_of,
)
from agent.artifacts.piece_lists import digests_of
from agent.core.piece_swarm import is_source
from agent.core.samples import Sample, Samples
from agent.tasks import Background, to_end
from protos.domain.errors import EdgeForgeError, NotFound
from protos.domain.manifest import (
    manifest_sha256,
)
from protos.domain.resources import (
    DesiredAdapter,
    DesiredReplica,
    Hold,
    Residency,
)

if TYPE_CHECKING:
    from agent.artifacts.disk import DiskState, ModelDisk
    from agent.artifacts.files import FileStore
    from agent.artifacts.means import Means, PullStats
    from agent.artifacts.piece_file import PieceFile
    from agent.artifacts.sources import Peers
    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import ModelFile

_log = logging.getLogger(__name__)

#: Objects pulled or waited for at once; the rest is refused.
_MAX_WAITING = 1_024


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far an object's pull is. ``error`` is empty, or why it waits or what ended it."""

    verified_bytes: int
    total_bytes: int
    error: str = ""


class _Pull:
    """One object's pull in progress."""

    def __init__(self, held: Held, path: Path) -> None:
        self.held = held
        self.path = path
        self.total_bytes = sum({one.sha256: one.size_bytes for one in held.files}.values())
        self.done_bytes = 0
        self.trouble = ""
        self.by_pieces: ObjectPull | None = None
        self.task: asyncio.Task[None] | None = None
        self.waiters = 0

    @property
    def verified_bytes(self) -> int:
        by_pieces = self.by_pieces.verified_bytes if self.by_pieces is not None else 0
        return min(self.total_bytes, self.done_bytes + by_pieces)


class ObjectStore:
    """What this node holds and pulls; on one event loop.

    ``whole_files`` pulls files whose pieces nobody knows, from the coordinator only.
    """

    def __init__(
        self,
        disk: ModelDisk,
        means: Means,
        whole_files: FileStore,
        *,
        view: Callable[[], FleetView],
        max_pulls: int,
    ) -> None:
        self._disk = disk
        self._means = means
        self._whole_files = whole_files
        self._view = view
        #: Of models, and of adapters, which are small and asked for by requests that wait.
        self._turns = (asyncio.Semaphore(max_pulls), asyncio.Semaphore(max_pulls))
        self._ordered: dict[str, Held] = {}
        self._paths: dict[str, tuple[Held, Path]] = {}
        self._pulls: dict[Path, _Pull] = {}
        self._errors: dict[str, str] = {}
        #: One pull for each digest at a time, whatever object it is for.
        self._locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._background = Background(max_tasks=_MAX_WAITING)
        self._evacuation = Evacuation(disk)

    # -- the contract ----------------------------------------------------------------------------

    def set_desired(
        self, replicas: Mapping[str, DesiredReplica], adapters: Mapping[str, DesiredAdapter]
    ) -> None:
        """Take what this node is ordered to hold: pulls of anything else end."""
        before, self._ordered = self._ordered, {**replicas, **adapters}
        self._evacuation.dropped(one for name, one in before.items() if name not in self._ordered)
        wanted = {self.path_of(one) for one in self._ordered.values()}
        self._paths = {name: self._paths[name] for name in self._ordered}
        self._errors = {name: why for name, why in self._errors.items() if name in self._ordered}
        self._disk.pin(
            frozenset(
                self.path_of(one)
                for one in self._ordered.values()
                if one.hold is not Hold.ON_DEMAND
            )
        )
        for path, pull in self._pulls.items():
            if path not in wanted and pull.task is not None:
                _log.info("pull ends, nobody wants it any more object=%s", name_of(pull.held))
                pull.task.cancel()

    def leave_zones(self) -> None:
        """Delete what this node may hold no more because of its zone, by the table of now."""
        self._evacuation.look(self._view(), self._means.peers.here, self._ordered)

    def residency(self, held: Held) -> Residency:
        """Return where the weights are: on this disk, at a peer, or at the origin. Hot."""
        if self._disk.has(self.path_of(held)):
            return Residency.DISK
        name = name_of(held)
        view = self._view()
        rows = (view.adapter_replicas if isinstance(held, DesiredAdapter) else view.replicas).get(
            name, {}
        )
        here = self._means.peers.here
        for node_id, replica in rows.items():
            if has_files(replica.state, replica.residency) and is_source(view, here, node_id, name):
                return Residency.PEER
        return Residency.ORIGIN

    def path_of(self, held: Held) -> Path:
        """Return the object's directory, whether or not it exists yet. Hot."""
        name = name_of(held)
        known = self._paths.get(name)
        if known is not None and (known[0] is held or known[0].files == held.files):
            return known[1]
        path = self._disk.objects / folder_of(name, manifest_sha256(held.files))
        if name in self._ordered:
            self._paths[name] = (held, path)
        return path

    def is_complete(self, held: Held) -> bool:
        """Return whether every file of the object is present and verified. Hot."""
        return self._disk.has(self.path_of(held))

    async def ensure(self, held: Held) -> Path:
        """Return the object's directory, pulling what is missing; one pull for all who ask.

        A pull ends when nobody waits for it any more, or when this node is ordered to hold the
        object no longer; what came is kept for the next one.

        Raises: InvalidRequest for a manifest that is not allowed; NotFound for an order that was
        withdrawn; DigestMismatch, LinkDown, StoreUnavailable, which are retryable.
        """
        path = self.path_of(held)
        if self._disk.has(path) and await asyncio.to_thread(self._disk.used, path):
            return path
        pull = self._pulls.get(path)
        while pull is not None and pull.task is not None and pull.task.cancelling():
            # it ends for others, who wanted the object no longer
            await asyncio.wait([pull.task])
            pull = self._pulls.get(path)
        if pull is None or pull.task is None:
            check_order(held)
            pull = self._pulls[path] = _Pull(held, path)
            pull.task = self._background.spawn(
                self._run(pull), name=f"pull-{name_of(held)}", logged=False
            )
            # not within the task: one that is cancelled before it begins runs nothing
            pull.task.add_done_callback(lambda _: self._ended(pull))
        task = pull.task
        assert task is not None
        pull.waiters += 1
        try:
            await asyncio.wait([task])
        finally:
            pull.waiters -= 1
            if not pull.waiters and not task.done():
                task.cancel()
        if task.cancelled():
            raise NotFound(f"{name_of(held)}: its pull was ended, this node holds it no longer")
        task.result()
        return path

    def hold(self, held: Held) -> None:
        """Keep the object on disk until it is released as often: an engine uses it."""
        self._disk.hold(self.path_of(held))

    def release(self, held: Held) -> None:
        """Give back a hold."""
        self._disk.release(self.path_of(held))
        self._evacuation.again()

    def progress(self) -> Mapping[str, PullProgress]:
        """Return by name what is being pulled, and the last error of what is not."""
        found = {
            name: PullProgress(0, total_bytes(self._ordered[name]), error)
            for name, error in self._errors.items()
            if name in self._ordered
        }
        for pull in self._pulls.values():
            name = name_of(pull.held)
            error = pull.trouble or self._errors.get(name, "")
            found[name] = PullProgress(pull.verified_bytes, pull.total_bytes, error)
        return found

    def disk(self) -> DiskState:
        """Return quota, use and trouble of the disk."""
        troubles = [pull.trouble for pull in self._pulls.values() if pull.trouble]
        troubles += [why for why in self._errors.values() if "disk" in why]
        return self._disk.state("; ".join(troubles[:3]))

    def use_peers(self, peers: Peers) -> None:
        """Pull from other nodes too, from now on."""
        self._means.peers = peers

    @property
    def stats(self) -> PullStats:
        """Counters of all pulls."""
        return self._means.stats

    async def close(self) -> None:
        """End all pulls."""
        await self._evacuation.close()
        await self._background.close()

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield what was pulled, and the disk."""
        stats, disk = self.stats, self.disk()
        pulled = stats.pulled_bytes + self._whole_files.pulled_bytes
        for name, text, value in (
            ("pulled_bytes", "Bytes of models pulled.", pulled),
            ("pulled_origin_bytes", "Of these, from the coordinator.", pulled - stats.peer_bytes),
            ("pulled_wrong_pieces", "Pieces with another digest.", stats.wrong_pieces),
        ):
            yield Sample(f"edgeforge_{name}", text, float(value), counter=True)
        for name, text, value in (
            ("disk_quota_bytes", "What models may take of the disk.", disk.quota_bytes),
            ("disk_used_bytes", "What models take of the disk.", disk.used_bytes),
            ("disk_pinned_bytes", "Of this, what is not evicted.", disk.pinned_bytes),
        ):
            yield Sample(f"edgeforge_{name}", text, float(value))

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return the disk, and how far each pull is."""
        disk = self.disk()
        return {
            "disk": {
                "quota_bytes": disk.quota_bytes,
                "used_bytes": disk.used_bytes,
                "pinned_bytes": disk.pinned_bytes,
                "trouble": disk.trouble,
            },
            "pulls": {
                name: {
                    "verified_bytes": one.verified_bytes,
                    "total_bytes": one.total_bytes,
                    "error": one.error,
                }
                for name, one in self.progress().items()
            },
        }

    # -- for peers -------------------------------------------------------------------------------

    def ordered_files(self, name: str) -> tuple[ModelFile, ...]:
        """Return the files of an object that this node was ordered to hold; none for others."""
        held = self._ordered.get(name)
        return held.files if held is not None else ()

    def has_file(self, name: str, file: ModelFile) -> bool:
        """Return whether a file of an ordered object is published; no disk access if all are."""
        return self._disk.has(self.path_of(self._ordered[name])) or self.file_path(file).is_file()

    def pieces_of(self, name: str, file: ModelFile) -> int:
        """Return the verified pieces of a file of an ordered object that is being pulled."""
        pull = self._pulls.get(self.path_of(self._ordered[name]))
        if pull is None or pull.by_pieces is None:
            return 0
        return pull.by_pieces.have_of(file.sha256)

    def file_path(self, file: ModelFile) -> Path:
        """Return the path of a published file, whether or not it exists."""
        return self._disk.files / file.sha256.hex()

    def paths_of_file(self, file: ModelFile) -> tuple[Path, Path]:
        """Return where a file is: published, or being pulled."""
        return self.file_path(file), self._disk.partial / file.sha256.hex()

    def list_path(self, file: ModelFile) -> Path:
        """Return the path of a file's piece list, whether or not it exists."""
        return self._disk.lists / file.sha256.hex()

    # -- inside ----------------------------------------------------------------------------------

    async def _run(self, pull: _Pull) -> None:
        name = name_of(pull.held)
        try:
            async with self._turns[isinstance(pull.held, DesiredAdapter)]:
                with disk_errors(name):
                    await self._pull(pull)
        except EdgeForgeError as error:
            self._errors[name] = str(error)
            raise
        else:
            self._errors.pop(name, None)

    def _ended(self, pull: _Pull) -> None:
        self._disk.forget_incoming(pull.path)
        if self._pulls.get(pull.path) is pull:
            del self._pulls[pull.path]
        self._evacuation.again()

    async def _pull(self, pull: _Pull) -> None:
        held, name = pull.held, name_of(pull.held)
        files = {one.sha256: one for one in held.files}
        sizes = {digest: one.size_bytes for digest, one in files.items()}
        gone = await to_end(lambda: self._disk.make_room(name, pull.path, sizes))
        for path in gone:
            _log.info("evicted to make room object=%s for=%s", path.name, name)
        async with AsyncExitStack() as locked:
            # in one order everywhere, so that two objects with common files cannot wait for
            # each other
            for digest in sorted(files):
                lock = self._locks.setdefault(digest, asyncio.Lock())
                await locked.enter_async_context(lock)
            missing = []
            for file in files.values():
                if self.file_path(file).is_file():
                    pull.done_bytes += file.size_bytes
                else:
                    missing.append(file)
            pieces = [one for one in missing if in_pieces(one)]
            async with self._means.origin.keep_open():
                if pieces:
                    await self._pull_pieces(pull, sorted(pieces, key=lambda one: one.size_bytes))
                for file in missing:
                    if not in_pieces(file):
                        await self._whole_files.ensure(file)
                        pull.done_bytes += file.size_bytes
            await to_end(lambda: self._disk.publish(pull.path, held.files))

    async def _pull_pieces(self, pull: _Pull, files: list[ModelFile]) -> None:
        name, means = name_of(pull.held), self._means

        def trouble(text: str) -> None:
            pull.trouble = text

        digests = [
            await digests_of(name, file, self._disk.lists, means.origin, means.peers)
            for file in files
        ]
        pull.by_pieces = ObjectPull(name, means, publish=self._publish_file, on_trouble=trouble)
        await pull.by_pieces.run(files, digests, self._disk.partial)

    def _publish_file(self, file: ModelFile, on_disk: PieceFile) -> None:
        on_disk.publish(self.file_path(file))
