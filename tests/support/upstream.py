"""Another hub for use cases: its commit and files are as a test sets."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.operations.upstream import FetchedFile, Progress, Snapshot
from tests.support.registry_cases import base_files

if TYPE_CHECKING:
    from coordinator.operations.upstream import Report, UpstreamRef
    from protos.domain.errors import EdgeForgeError

COMMIT = "c" * 40


@dataclass(slots=True)
class UpstreamDouble:
    """Implements ``operations.upstream.Upstream``; an error is raised."""

    folder: Path
    commit: str = COMMIT
    files: dict[str, bytes] = field(default_factory=base_files)
    error: EdgeForgeError | None = None
    tokens: dict[str, str] = field(default_factory=dict)
    fetches: list[str] = field(default_factory=list)

    async def head(self, ref: UpstreamRef, owner: str) -> str:
        if self.error is not None:
            raise self.error
        return self.commit

    @contextlib.asynccontextmanager
    async def fetched(
        self, ref: UpstreamRef, owner: str, report: Report
    ) -> AsyncIterator[Snapshot]:
        if self.error is not None:
            raise self.error
        self.fetches.append(str(ref))
        files = []
        for name, data in self.files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            files.append(FetchedFile(name, hashlib.sha256(data).digest(), len(data), path))
        report(Progress("downloading", 1, 1))
        yield Snapshot(self.commit, "mit", tuple(files))

    def set_token(self, owner: str, token: str) -> None:
        self.tokens[owner] = token

    def has_token(self, owner: str) -> bool:
        return bool(self.tokens.get(owner))
