"""Secrets in files that nobody else may read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.errors import ConfigInvalid

if TYPE_CHECKING:
    from pathlib import Path


def read_secret(path: Path, key: str) -> str:
    """Return the one line of a file that nobody else may read. Raises: ConfigInvalid."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid([f"{key}: {path} cannot be read: {error}"]) from error
    if mode & 0o077:
        raise ConfigInvalid([f"{key}: others can read {path}"], f"chmod 600 {path}")
    if not text or len(text.split()) != 1:
        raise ConfigInvalid([f"{key}: {path} is not one line with a secret"])
    return text
