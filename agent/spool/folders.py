"""Names under the usage folder: a folder for each spool, made whole or not at all.

``00000007-<spool id>``: the number orders the spools, since clocks may be wrong. A new id at every
start means that numbers are never used twice, even by a disk that was put back to an old state.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.spool.writer import SUFFIX
from protos.domain.spool import MAX_FRAME_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from agent.spool.disk import Disk

_NAME = re.compile(r"([0-9]{8})-([0-9a-f]{32})")
_SEGMENT = re.compile(r"([0-9]{8})\.seg")
_NEW = "new"
KEPT, QUARANTINE = "kept", "quarantine"


@dataclass(frozen=True, slots=True)
class SpoolFolder:
    """One spool on disk."""

    path: Path
    order: int
    spool_id: str

    def segments(self) -> list[tuple[int, Path]]:
        """Return index and path of each segment, in order."""
        found = []
        for path in self.path.iterdir():
            match = _SEGMENT.fullmatch(path.name)
            if match:
                found.append((int(match[1]), path))
        return sorted(found)

    def segment(self, index: int) -> Path:
        return self.path / f"{index:08d}{SUFFIX}"


def find_spools(folder: Path) -> list[SpoolFolder]:
    """Return the spools under ``folder``, the oldest first."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match and path.is_dir():
            found.append(SpoolFolder(path, int(match[1]), match[2]))
    return sorted(found, key=lambda one: (one.order, one.spool_id))


def make_spool(folder: Path, disk: Disk) -> SpoolFolder:
    """Make the folder of a new spool. Raises: OSError."""
    disk.make_folder(folder)
    order = max((one.order for one in find_spools(folder)), default=0) + 1
    spool_id = uuid.uuid4().hex
    path = folder / f"{order:08d}-{spool_id}"
    disk.make_folder(folder / _NEW)
    disk.rename(folder / _NEW, path)
    return SpoolFolder(path, order, spool_id)


def trim_spool(spool: SpoolFolder, disk: Disk) -> None:
    """Give back the space that an earlier run had allocated and not used. Raises: OSError."""
    for _index, path in reversed(spool.segments()):
        size = path.stat().st_size
        data = path.read_bytes()
        written = len(data.rstrip(b"\0"))
        if not written:
            disk.remove(path)
            continue
        # A frame may end in zeros.
        needed = written + MAX_FRAME_BYTES
        if size > needed:
            disk.truncate(path, needed)
        return


def remove_spool(spool: SpoolFolder, disk: Disk) -> None:
    """Remove a spool that has been delivered; cut off in between, the rest is delivered again."""
    for _index, path in spool.segments():
        disk.remove(path)
    try:
        spool.path.rmdir()
    except OSError:
        return  # something strange is in it: left for an operator to look at
    disk.sync_folder(spool.path.parent)
