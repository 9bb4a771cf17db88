"""The calls of the operating system that the spool makes; tests put faults in their place."""

from __future__ import annotations

import os
from pathlib import Path

_MODE = 0o600


class Disk:
    """Files of fixed size, written at an offset and forced to disk. All raise OSError."""

    def create(self, path: Path, size_bytes: int) -> int:
        """Return the descriptor of a new file whose space is allocated, all of it on disk."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        try:
            os.posix_fallocate(fd, 0, size_bytes)
            os.fsync(fd)
            self.sync_folder(path.parent)
        except OSError:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        return fd

    def append_to(self, path: Path) -> int:
        """Return the descriptor of a file to be appended to, made if there is none."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Write all of ``data``."""
        done = os.pwrite(fd, data, offset)
        while done < len(data):
            done += os.pwrite(fd, data[done:], offset + done)

    def write_through(self, fd: int, data: bytes, offset: int) -> None:
        """Write all of ``data`` and wait until it is on disk, in one call of the system.

        The thread that calls it takes the interpreter back once instead of twice. What was written
        before by ``write`` is not waited for.
        """
        done = os.pwritev(fd, [data], offset, os.RWF_DSYNC)
        while done < len(data):
            done += os.pwritev(fd, [data[done:]], offset + done, os.RWF_DSYNC)

    def append(self, fd: int, data: bytes) -> None:
        """Write all of ``data`` at the end of the file."""
        done = os.write(fd, data)
        while done < len(data):
            done += os.write(fd, data[done:])

    def sync(self, fd: int) -> None:
        """Wait until what was written is on disk."""
        os.fdatasync(fd)

    def read_back(self, fd: int, length: int, offset: int) -> bytes:
        """Return what is stored, read from the disk where the kernel can drop its own copy."""
        os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)
        return os.pread(fd, length, offset)

    def make_folder(self, path: Path) -> None:
        """Make a private folder, if there is none."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def rename(self, old: Path, new: Path) -> None:
        """Rename within one folder, and wait until that is on disk."""
        os.rename(old, new)
        self.sync_folder(new.parent)

    def remove(self, path: Path) -> None:
        """Remove a file; one that is gone is no fault."""
        path.unlink(missing_ok=True)

    def truncate(self, path: Path, size_bytes: int) -> None:
        """Give back the space behind ``size_bytes``."""
        os.truncate(path, size_bytes)

    def close(self, fd: int) -> None:
        """Close a descriptor; whatever close reports, it is closed."""
        try:
            os.close(fd)
        except OSError:
            return

    def sync_folder(self, path: Path) -> None:
        """Wait until the names in a folder are on disk."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
