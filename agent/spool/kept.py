"""Records that may not leave their zone: kept here after the coordinator has their sums.

One file a day and spool, in the spool's own frames; days are of the coordinator's clock, which
was heard when the sums were taken, so that a wrong clock of this host removes nothing.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from agent.spool.folders import KEPT
from agent.spool.space import folder_bytes
from protos.domain.spool import (
    FINAL,
    RECORD,
    ZONED,
    Frame,
    FrameScanner,
    encode_frame,
    seed_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from agent.spool.disk import Disk
    from agent.spool.space import Space

_log = logging.getLogger(__name__)

_NAME = re.compile(r"([0-9]{6})-([0-9a-f]{32})\.kept")
_DAY_MS = 86_400_000


class KeptRecords:
    """The folder of kept records. Blocking: for a thread."""

    def __init__(self, space: Space, keep_days: int, disk: Disk) -> None:
        self._folder = space.folder / KEPT
        self._limit_bytes = space.kept_bytes
        self._keep_days = keep_days
        self._disk = disk

    def keep(self, spool_id: str, records: Iterable[tuple[int, bytes]], now_unix_ms: int) -> None:
        """Append ``records`` and wait until they are on disk. Raises: OSError.

        The same records may come again after a crash: ``read_kept`` yields each once.
        """
        seed = seed_of(spool_id)
        data = b"".join(
            encode_frame(seed, RECORD | FINAL | ZONED, seq, payload) for seq, payload in records
        )
        self._disk.make_folder(self._folder)
        path = self._folder / f"{now_unix_ms // _DAY_MS:06d}-{spool_id}.kept"
        made = not path.exists()
        fd = self._disk.append_to(path)
        try:
            self._disk.append(fd, data)
            self._disk.sync(fd)
        finally:
            self._disk.close(fd)
        if made:
            self._disk.sync_folder(self._folder)
        self._expire(now_unix_ms // _DAY_MS)

    def _expire(self, today: int) -> None:
        """Remove what is older than is configured, and the oldest while there is too much."""
        files = _files(self._folder)
        size = folder_bytes(self._folder)
        for day, _spool_id, path in files[:-1]:
            over = size > self._limit_bytes
            if day >= today - self._keep_days and not over:
                return
            if over:
                _log.warning("kept records of usage go before their time: no space file=%s", path)
            size -= path.stat().st_size
            self._disk.remove(path)


def read_kept(folder: Path) -> Iterator[tuple[str, int, bytes]]:
    """Yield spool, number and bytes of each kept record once, the oldest first."""
    told: set[tuple[str, int]] = set()
    for _day, spool_id, path in _files(folder / KEPT):
        scanner = FrameScanner(path.read_bytes(), seed_of(spool_id))
        while (item := scanner.next()) is not None:
            if isinstance(item, Frame) and item.is_record and (spool_id, item.seq) not in told:
                told.add((spool_id, item.seq))
                yield spool_id, item.seq, item.payload


def _files(folder: Path) -> list[tuple[int, str, Path]]:
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match:
            found.append((int(match[1]), match[2], path))
    return sorted(found)
