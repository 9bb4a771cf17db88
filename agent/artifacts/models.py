"""Models as directories an engine can read, made of verified files."""

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
    """One directory a model, named by its manifest so that another version is another directory."""

    def __init__(self, folder: Path, files: FileStore) -> None:
        self._folder = folder
        self._files = files

    def path_of(self, desired: DesiredReplica) -> Path:
        """Where the model is, once it is whole."""
        name = _UNSAFE.sub("-", desired.model)[:80]
        return self._folder / f"{name}-{manifest_sha256(desired.files).hex()[:16]}"

    def is_whole(self, desired: DesiredReplica) -> bool:
        """Whether every file of the model is here, verified."""
        return self.path_of(desired).is_dir()

    async def ensure(self, desired: DesiredReplica) -> Path:
        """Pull what is missing and return the model's directory.

        Raises: InvalidRequest for a manifest that may not be used; DigestMismatch, LinkDown,
        StoreUnavailable, all worth trying again.
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
