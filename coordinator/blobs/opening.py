"""Opens the store of blobs that the configuration names."""

from __future__ import annotations

import logging
import os
import stat
import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obstore.store import S3Store

from coordinator.blobs.folder import FolderStore
from coordinator.blobs.incoming import IncomingLimits
from coordinator.blobs.object_store import ObjectBlobStore
from protos.domain.errors import ConfigInvalid, StoreUnavailable

if TYPE_CHECKING:
    from coordinator.blobs.interface import BlobStore
    from coordinator.config import CoordinatorConfig
    from coordinator.sections.blobs import BlobsSection

_log = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S = 60
_CONNECT_TIMEOUT_S = 5
_MAX_RETRIES = 3
_RETRY_TIMEOUT_S = 15
_CREDENTIALS = ("access_key_id", "secret_access_key", "session_token")
_MAX_CREDENTIALS_BYTES = 16 * 1024


async def open_blobs(config: CoordinatorConfig, now_unix_ms: Callable[[], int]) -> BlobStore:
    """Return the store of ``[blobs]``; uploads in progress stay in the state directory.

    Raises: ConfigInvalid when the object store refuses the credentials or has no such bucket. One
    that cannot be reached now is logged: it may come later.
    """
    section, folder = config.blobs, config.blobs_dir
    max_blob_bytes = config.limits.max_blob_bytes
    if not section.url:
        return FolderStore.open(
            folder,
            max_blob_bytes=max_blob_bytes,
            max_partial_bytes=section.partial_max_bytes,
            max_partial_bytes_per_owner=section.partial_max_bytes_per_account,
        )
    store = ObjectBlobStore(
        make_client(section),
        folder,
        limits=IncomingLimits(
            max_blob_bytes=max_blob_bytes,
            max_partial_bytes=section.partial_max_bytes,
            max_partial_bytes_per_owner=section.partial_max_bytes_per_account,
        ),
        max_copies_bytes=section.local_copy_max_bytes,
        now_unix_ms=now_unix_ms,
    )
    try:
        await store.check()
    except StoreUnavailable as error:
        if not error.retryable:
            raise ConfigInvalid([f"blobs.url: {error.message}"], error.hint) from error
        _log.error("starting without the object store: %s", error)
    return store


def make_client(section: BlobsSection) -> S3Store:
    """Return a client for the prefix of ``blobs.url``. Raises: ConfigInvalid."""
    settings: dict[str, Any] = {"region": section.region}
    if section.endpoint:
        settings["endpoint"] = section.endpoint
    if section.credentials_file:
        settings |= read_credentials(Path(section.credentials_file))
    try:
        return S3Store.from_url(
            section.url,
            client_options={
                "allow_http": section.endpoint.startswith("http://"),
                "timeout": timedelta(seconds=_REQUEST_TIMEOUT_S),
                "connect_timeout": timedelta(seconds=_CONNECT_TIMEOUT_S),
            },
            retry_config={
                "max_retries": _MAX_RETRIES,
                "retry_timeout": timedelta(seconds=_RETRY_TIMEOUT_S),
            },
            **settings,
        )
    except Exception as error:
        raise ConfigInvalid(
            ["blobs.url: no client can be made for it"], "see docs/CONFIG.md, [blobs]"
        ) from error


def read_credentials(path: Path) -> dict[str, str]:
    """Return keys from a TOML file that only its owner can read. Raises: ConfigInvalid."""
    name = "blobs.credentials_file"
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode) or about.st_size > _MAX_CREDENTIALS_BYTES:
                raise ConfigInvalid([f"{name}: {path} is no small file"])
            if about.st_mode & 0o077:
                raise ConfigInvalid(
                    [f"{name}: {path} can be read by others (mode {about.st_mode & 0o777:04o})"],
                    f"chmod 600 {path}; if others may have read it, make a new key",
                )
            content = tomllib.loads(file.read().decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        # The text of the error may quote the file.
        raise ConfigInvalid(
            [f"{name}: {path} cannot be read as TOML"],
            'it holds two lines: access_key_id = "..." and secret_access_key = "..."',
        ) from None
    if missing := [key for key in _CREDENTIALS[:2] if not isinstance(content.get(key), str)]:
        raise ConfigInvalid([f"{name}: {path} has no {' and no '.join(missing)}"])
    return {key: str(content[key]) for key in _CREDENTIALS if key in content}
