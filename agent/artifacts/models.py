"""Models as directories that an engine can read, linked from verified files."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from protos.domain.manifest import check_manifest, manifest_sha256

if TYPE_CHECKING:
    from agent.artifacts.files import FileStore
    from protos.domain.resources import DesiredReplica

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


class ModelStore:
    """One directory for each model version, named by the digest of its manifest."""

    def __init__(self, folder: Path, files: FileStore) -> None:
        self._folder = folder
        self._files = files

    def path_of(self, desired: DesiredReplica) -> Path:
        """Return the model's directory, whether or not it exists yet."""
        name = _UNSAFE.sub("-", desired.model)[:80]
        return self._folder / f"{name}-{manifest_sha256(desired.files).hex()[:16]}"

    def is_complete(self, desired: DesiredReplica) -> bool:
        """Return whether every file of the model is present and verified."""
        return self.path_of(desired).is_dir()

    async def ensure(self, desired: DesiredReplica) -> Path:
        """Pull what is missing and return the model's directory.

        Raises: InvalidRequest for a manifest that is not allowed; DigestMismatch, LinkDown,
        StoreUnavailable, which are retryable.
        """
        check_manifest(desired.files)
        path = self.path_of(desired)
        if path.is_dir():
            return path
        async with asyncio.TaskGroup() as group:
            for file in desired.files:
                group.create_task(self._files.ensure(file))
        await asyncio.to_thread(self._publish, desired, path)
        return path

    def _publish(self, desired: DesiredReplica, path: Path) -> None:
        partial = path.with_name(path.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, mode=0o700)
        for file in desired.files:
            target = partial / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(self._files.path_of(file), target)
        partial.rename(path)
