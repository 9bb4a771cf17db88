"""Files replaced whole: after a kill at any moment the old content is there, or the new one."""

from __future__ import annotations

import os
from pathlib import Path

from protos.host.ownership import adopt

_PRIVATE_FILE = 0o600
_PRIVATE_FOLDER = 0o700


def make_private_folder(folder: Path) -> None:
    """Make ``folder``, accessible to its owner only. Made by root, it gets its parent's owner.

    Missing folders above it are made as usual.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        adopt(one, one.parent)
    if folder.stat().st_mode & 0o7777 != _PRIVATE_FOLDER:
        folder.chmod(_PRIVATE_FOLDER)


def write_whole(path: Path, data: bytes, *, mode: int = _PRIVATE_FILE) -> None:
    """Replace ``path`` by ``data`` in one rename, on disk when this returns. Raises: OSError.

    Written by root, the file gets the owner of its folder.
    """
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(partial, flags, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            adopt(file.fileno(), path.parent)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have renames in ``folder`` survive a loss of power. Raises: OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
