"""The interface through which use cases import from another hub."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from protos.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

_REF = re.compile(
    r"(?:hf://)?(?P<repository>[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95})"
    r"(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9_./-]{0,99}))?"
)


class UpstreamRef(NamedTuple):
    """A repository of another hub at a revision."""

    repository: str
    revision: str = "main"

    def __str__(self) -> str:
        return f"hf://{self.repository}@{self.revision}"


def parse_upstream(text: str) -> UpstreamRef:
    """Return what ``hf://org/repo[@rev]`` names. Raises: InvalidRequest."""
    found = _REF.fullmatch(text)
    if found is None or ".." in text or "--" in found["repository"]:
        raise InvalidRequest(
            f"{text[:150]!a} names no repository of a hub", "hf://org/repo or hf://org/repo@REV"
        )
    return UpstreamRef(found["repository"], found["revision"] or "main")


class FetchedFile(NamedTuple):
    """A file that was downloaded and is as the hub lists it."""

    path: str
    sha256: bytes
    size_bytes: int
    source: Path


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A commit of a repository, on this host's disk."""

    sha: str
    licence: str
    files: tuple[FetchedFile, ...]
    #: What was not downloaded, as text.
    left_out: tuple[str, ...] = ()


class Progress(NamedTuple):
    """How far an import is: of a download, or of the checks behind it."""

    stage: str
    received_bytes: int = 0
    total_bytes: int = 0


Report = Callable[[Progress], None]


class Upstream(Protocol):
    """Another hub; each owner has a token of its own for it, or none."""

    async def head(self, ref: UpstreamRef, owner: str) -> str:
        """Return the commit that a revision is. Raises: InvalidRequest, LinkDown."""
        ...

    def fetched(
        self, ref: UpstreamRef, owner: str, report: Report
    ) -> AbstractAsyncContextManager[Snapshot]:
        """Hold a download; it is deleted if the body ends without an error, else it goes on later.

        Raises: InvalidRequest, LinkDown, Overloaded.
        """
        ...

    def set_token(self, owner: str, token: str) -> None:
        """Keep a token, or forget it if it is empty."""
        ...

    def has_token(self, owner: str) -> bool:
        """Return whether a token is kept for an owner."""
        ...
