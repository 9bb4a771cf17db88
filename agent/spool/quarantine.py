"""Keeps bytes of a spool that cannot be read, and names them in the log and the status."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from agent.spool.folders import QUARANTINE
from agent.spool.space import folder_bytes
from protos.domain.spool import Tail

if TYPE_CHECKING:
    from agent.spool.disk import Disk
    from agent.spool.folders import SpoolFolder
    from agent.spool.space import Space
    from agent.spool.stats import SpoolStats
    from protos.domain.spool import Damage

_log = logging.getLogger(__name__)

#: Names kept for the status.
MAX_NAMED = 32


class Quarantine:
    """A file for each piece of damage: ``<spool>-<segment>-<offset>``, never deleted by us."""

    def __init__(self, space: Space, stats: SpoolStats, disk: Disk) -> None:
        self._folder = space.folder / QUARANTINE
        self._limit_bytes = space.quarantine_bytes
        self._stats = stats
        self._disk = disk

    def keep(
        self, spool: SpoolFolder, segment: int, damage: Damage | Tail, numbers: list[int]
    ) -> None:
        """Keep the bytes of ``damage``, by which the records ``numbers`` were lost.

        A tail was cut off before anything was promised of it: kept and logged, not counted.
        Over the limit, or on a full disk, the bytes are only logged.
        """
        name = f"{spool.spool_id}-{segment:08d}-{damage.offset}"
        path = self._folder / name
        if path.exists():
            return  # read again after the coordinator asked for earlier numbers
        torn = isinstance(damage, Tail)
        _log.log(
            logging.WARNING if torn else logging.ERROR,
            "%s spool=%s segment=%d offset=%d bytes=%d records=%s quarantine=%s",
            "the end of a spool was cut off" if torn else "a spool is damaged",
            spool.spool_id,
            segment,
            damage.offset,
            len(damage.data),
            _said(numbers),
            name,
        )
        if not torn:
            said = f"{name}: {len(damage.data)} bytes, records {_said(numbers)}"
            self._stats.quarantined = [*self._stats.quarantined, said][-MAX_NAMED:]
        try:
            self._write(path, damage.data)
        except OSError as error:
            _log.warning("damaged bytes could not be kept quarantine=%s: %s", name, error)

    def _write(self, path: Path, data: bytes) -> None:
        if folder_bytes(self._folder) + len(data) > self._limit_bytes:
            raise OSError("the quarantine is full")
        self._disk.make_folder(self._folder)
        new = path.with_name(f"{path.name}.new")
        self._disk.remove(new)
        fd = self._disk.append_to(new)
        try:
            self._disk.append(fd, data)
            self._disk.sync(fd)
        finally:
            self._disk.close(fd)
        self._disk.rename(new, path)


def _said(numbers: list[int]) -> str:
    if not numbers:
        return "none"
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
