"""Reads a configuration file; every way in which it cannot be read is one message."""

from __future__ import annotations

import tomllib
from pathlib import Path

from protos.domain.errors import ConfigInvalid
from protos.host.ownership import not_allowed


def mending_hint(path: Path) -> str:
    """Return the next step for mistakes in the file."""
    return f"mend {path} and start again; docs/CONFIG.md lists every key"


def read_config_file(path: Path) -> dict[str, object]:
    """Return the parsed TOML of ``path``. Raises: ConfigInvalid."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigInvalid([f"no file {path}"], "name the file with --config") from None
    except PermissionError as error:
        raise not_allowed(path) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigInvalid([f"{path}: {error}"], mending_hint(path)) from error
