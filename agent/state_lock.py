"""A lock on the state folder: two agents would share its socket, engine and tables."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from protos.domain.errors import ConfigInvalid
from protos.host.ownership import not_allowed

_FILE = "agent.lock"


def is_locked(folder: Path) -> bool:
    """Whether an agent runs with ``folder``, as far as this user can see."""
    try:
        descriptor = os.open(folder / _FILE, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextlib.contextmanager
def lock_state_dir(folder: Path) -> Iterator[None]:
    """Lock ``folder`` for this process. Raises: ConfigInvalid when another holds it."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / _FILE, os.O_RDWR | os.O_CREAT, 0o600)
    except PermissionError as error:
        raise not_allowed(Path(error.filename or folder), below=folder) from error
    except OSError as error:
        raise ConfigInvalid([f"node.state_dir {folder}: {error.strerror}"]) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ConfigInvalid(
            [f"node.state_dir {folder} is held by another agent"], "stop it, or use another folder"
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)
