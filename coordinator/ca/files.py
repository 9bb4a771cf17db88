"""Keys and certificates on disk: written atomically, keys readable by their owner only."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from protos.domain.errors import ConfigInvalid, Conflict, NotFound
from protos.host.files import sync_folder
from protos.host.ownership import adopt

_KEY_MODE = 0o600
_PUBLIC_MODE = 0o644


def write_key(path: Path, pem: bytes, *, replace: bool = False) -> None:
    """Write a private key 0600. Raises: Conflict if it exists and is not to be replaced."""
    _write(path, pem, _KEY_MODE, replace)


def write_public(path: Path, pem: bytes, *, replace: bool = False) -> None:
    """Write a certificate. Raises: Conflict if it exists and is not to be replaced."""
    _write(path, pem, _PUBLIC_MODE, replace)


def read_key(path: Path) -> bytes:
    """Return a private key that only its owner can read.

    Raises: NotFound; ConfigInvalid if others than the owner may read it.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise ConfigInvalid(
                    [f"the private key {path} can be read by others (mode {mode:04o})"],
                    f"chmod 600 {path}; if others may have read it, make a new one",
                )
            return file.read()
    except FileNotFoundError:
        raise NotFound(
            f"there is no private key {path}", "`edgeforge-coordinator init` makes it"
        ) from None


def _write(path: Path, content: bytes, mode: int, replace: bool) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            adopt(file.fileno(), path.parent)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)  # unlike a rename, refuses to overwrite
    except FileExistsError:
        raise Conflict(f"{path} exists", "it is never overwritten", retryable=False) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    sync_folder(path.parent)
