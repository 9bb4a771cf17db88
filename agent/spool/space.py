"""How much of the usage folder's quota is taken, and by what."""

from __future__ import annotations

import os
from pathlib import Path

#: Shares of the quota that damaged bytes and records kept locally may take at most.
QUARANTINE_SHARE = 1 / 16
KEPT_SHARE = 1 / 2


class Space:
    """Counts the bytes of the folder's files. Any thread."""

    def __init__(self, folder: Path, quota_bytes: int) -> None:
        self.folder = folder
        self.quota_bytes = quota_bytes
        self.quarantine_bytes = int(quota_bytes * QUARANTINE_SHARE)
        self.kept_bytes = int(quota_bytes * KEPT_SHARE)

    def used_bytes(self) -> int:
        """Return what all files take: a call of the system for each, few hundred at most."""
        return folder_bytes(self.folder)

    def allows(self, more_bytes: int) -> bool:
        """Whether the quota has room for ``more_bytes``."""
        return self.used_bytes() + more_bytes <= self.quota_bytes


def folder_bytes(folder: Path) -> int:
    """Return the sizes of all files under ``folder``; those that vanish meanwhile count 0."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += folder_bytes(Path(entry.path))
                else:
                    total += _size_of(entry)
    except FileNotFoundError:
        return total
    return total


def _size_of(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0
