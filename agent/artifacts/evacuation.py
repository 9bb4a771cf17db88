"""Deletes what this node may hold no more because of its zone: weights do not wait for room there.

What merely left the orders stays until space is needed; what every deployment of it keeps out of
this zone goes as soon as no engine uses it, with what a pull had brought of it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent.artifacts.orders import folder_of, name_of
from agent.tasks import Background, to_end
from protos.domain.holding import is_outside, names_outside
from protos.domain.manifest import manifest_sha256
from protos.domain.residency import zone_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from agent.artifacts.disk import ModelDisk
    from agent.artifacts.orders import Held
    from protos.domain.fleet_view import FleetView

_log = logging.getLogger(__name__)

#: Objects that have left the orders and whose files are remembered; the latest.
_MAX_DROPPED = 1_024


class Evacuation:
    """On one event loop; deletes in a thread."""

    def __init__(self, disk: ModelDisk) -> None:
        self._disk = disk
        #: Name -> folder and files of what is no longer ordered.
        self._dropped: dict[str, tuple[Path, frozenset[bytes]]] = {}
        #: What is to go, also while an engine uses it.
        self._going: dict[Path, frozenset[bytes]] = {}
        self._background = Background(max_tasks=8)
        self._deleting = False
        #: What the last look was made by; indexes of a view are replaced, never changed.
        self._by: tuple[object, ...] = ()

    def dropped(self, held: Iterable[Held]) -> None:
        """Remember what this node is ordered to hold no longer."""
        for one in held:
            name, digest = name_of(one), manifest_sha256(one.files)
            folder = self._disk.objects / folder_of(name, digest)
            self._dropped.pop(name, None)
            self._dropped[name] = (folder, frozenset(file.sha256 for file in one.files))
            if len(self._dropped) > _MAX_DROPPED:
                del self._dropped[next(iter(self._dropped))]

    def look(self, view: FleetView, here: str, ordered: Iterable[str]) -> None:
        """Find what may not be in this zone by ``view``, and delete it."""
        kept = frozenset(ordered)
        by = (view.deployments, view.models, view.adapters, zone_of(view, here), kept)
        if len(self._by) == len(by) and all(
            one is other or (isinstance(one, str | frozenset) and one == other)
            for one, other in zip(by, self._by, strict=True)
        ):
            return  # replicas and health change all the time
        self._by = by
        found = {
            folder: digests
            for name, (folder, digests) in self._dropped.items()
            if name not in kept and is_outside(view, here, name)
        }
        for name in names_outside(view, here) - kept:
            row = view.models.get(name) or view.adapters.get(name)
            if row is None:
                continue
            folder = self._disk.objects / folder_of(name, row.manifest_sha256)
            if folder not in found and self._disk.has(folder):
                found[folder] = frozenset()
        self._going = found
        self.again()

    def again(self) -> None:
        """Try again what an engine used."""
        if self._going and not self._deleting:
            self._deleting = True
            self._background.spawn(self._delete(), name="evacuation")

    async def close(self) -> None:
        """End, after what is being deleted."""
        await self._background.close()

    async def _delete(self) -> None:
        try:
            looked_at = None
            while looked_at is not self._going:  # the table may change meanwhile
                looked_at = self._going
                for folder in list(looked_at):
                    await self._delete_one(folder)
        except OSError as error:
            _log.error("what may not be in this zone cannot be deleted: %s", error)
        finally:
            self._deleting = False

    async def _delete_one(self, folder: Path) -> None:
        """Raises: OSError."""
        digests = self._going.get(folder)
        if digests is None:
            return  # it may be here again
        if await to_end(lambda: self._disk.evacuate(folder, digests)):
            self._going.pop(folder, None)
            self._forget(folder)
            _log.warning("deleted: it may not be in this zone object=%s", folder.name)

    def _forget(self, folder: Path) -> None:
        for name, (path, _) in list(self._dropped.items()):
            if path == folder:
                del self._dropped[name]
