"""What the hub's protocol needs of the registry."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from coordinator.core.hub_commit import TreeFile
    from coordinator.core.hub_versions import Version
    from coordinator.operations.actor import Actor
    from protos.domain.object_names import ObjectKind


@dataclass(frozen=True, slots=True)
class NewVersion:
    """An object that a commit publishes."""

    name: str
    kind: ObjectKind
    files: tuple[TreeFile, ...]
    #: Of an adapter: a reference to its base.
    base: str = ""


class Catalogue(Protocol):
    """Objects and blobs, through the use cases that every door shares."""

    async def versions(self, actor: Actor, repository: str) -> Sequence[Version]:
        """Return what ``actor`` may read of a repository, oldest first; empty: nothing."""
        ...

    async def latest(self, actor: Actor) -> Sequence[tuple[str, Version]]:
        """Return each repository that ``actor`` may read with its latest version."""
        ...

    async def taken_tags(self, actor: Actor, repository: str) -> Sequence[str]:
        """Return the versions that a repository has or had."""
        ...

    async def missing(self, actor: Actor, sha256s: Sequence[bytes]) -> Collection[bytes]:
        """Return which contents ``actor`` is to send: it must have them to publish them."""
        ...

    async def publish(self, actor: Actor, new: NewVersion) -> Version:
        """Publish an object. Raises: InvalidRequest, Forbidden, Conflict, TooLarge."""
        ...

    async def receive(
        self, actor: Actor, sha256: bytes, size_bytes: int, chunks: AsyncIterator[bytes]
    ) -> None:
        """Store a whole blob. Raises: InvalidRequest, TooLarge, Overloaded, StoreUnavailable."""
        ...

    async def received_bytes(self, actor: Actor, sha256: bytes) -> int:
        """Return where the account's upload of a blob goes on."""
        ...

    async def append(
        self,
        actor: Actor,
        sha256: bytes,
        size_bytes: int,
        offset_bytes: int,
        chunks: AsyncIterator[bytes],
    ) -> int:
        """Continue an upload; return how many bytes have been received. Raises: as ``receive``."""
        ...

    async def size_bytes(self, sha256: bytes) -> int | None:
        """Return the size of a stored blob; None: it is not stored."""
        ...

    def read(
        self, sha256: bytes, offset_bytes: int, length_bytes: int
    ) -> AsyncGenerator[bytes, None]:
        """Yield a part of a stored blob, at least one byte."""
        ...
