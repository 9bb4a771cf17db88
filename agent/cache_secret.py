"""The file with this agent's secret for cache salts, made once in the state directory."""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path

from agent.core.cache_salt import SECRET_BYTES
from protos.domain.errors import ConfigInvalid
from protos.host.files import write_whole

_log = logging.getLogger(__name__)

FILE_NAME = "cache-secret"


def load_cache_secret(state_dir: Path) -> bytes:
    """Return the secret, made at the first call. Raises: ConfigInvalid if it cannot be read.

    A file of another length is replaced: a new secret only makes engines compute prefixes again.
    The caller holds the lock of ``state_dir``.
    """
    path = state_dir / FILE_NAME
    try:
        found = _read(path)
        if found is None or len(found) != SECRET_BYTES:
            if found is not None:
                _log.warning("cache secret replaced, it has %d bytes path=%s", len(found), path)
            found = secrets.token_bytes(SECRET_BYTES)
            write_whole(path, found)
    except OSError as error:
        raise ConfigInvalid(
            [f"{path}: {error.strerror}"], "it must belong to the user that the agent runs as"
        ) from error
    return found


def _read(path: Path) -> bytes | None:
    """Return the file's bytes, None without a file; others lose the right to read it."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                os.fchmod(file.fileno(), 0o600)
            return file.read(SECRET_BYTES + 1)
    except FileNotFoundError:
        return None
