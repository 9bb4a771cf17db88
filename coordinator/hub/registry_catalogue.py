"""The registry as the hub's protocol needs it: every act is a use case."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from typing import TYPE_CHECKING

from coordinator.core.hub_commit import TreeFile
from coordinator.core.hub_versions import Version
from coordinator.operations.registry_objects import NewObject, RegistryObject
from protos.domain.object_names import ObjectKind
from protos.domain.resources import Adapter, ModelFile

if TYPE_CHECKING:
    from coordinator.blobs.interface import BlobStore
    from coordinator.hub.catalogue import NewVersion
    from coordinator.operations.actor import Actor
    from coordinator.operations.operations import Operations


class RegistryCatalogue:
    """Implements ``hub.catalogue.Catalogue``. Bytes are read of versions that were found before."""

    def __init__(self, operations: Operations, blobs: BlobStore) -> None:
        self._operations = operations
        self._blobs = blobs

    async def versions(self, actor: Actor, repository: str) -> Sequence[Version]:
        """Return what ``actor`` may read of a repository, oldest first."""
        found = await self._operations.repositories.show(actor, repository)
        return [_version(one) for one in found.versions]

    async def latest(self, actor: Actor) -> Sequence[tuple[str, Version]]:
        """Return each repository that ``actor`` may read with its latest version."""
        found = await self._operations.repositories.list_all(actor)
        return [(one.name, _version(one.versions[-1])) for one in found if one.versions]

    async def taken_tags(self, actor: Actor, repository: str) -> Sequence[str]:
        """Return the versions that a repository has or had."""
        return (await self._operations.repositories.show(actor, repository)).taken

    async def missing(self, actor: Actor, sha256s: Sequence[bytes]) -> Collection[bytes]:
        """Return which contents ``actor`` is to send."""
        return await self._operations.models.find_missing(actor, sha256s)

    async def publish(self, actor: Actor, new: NewVersion) -> Version:
        """Publish an object. Raises: as ``Registry.publish``."""
        files = tuple(ModelFile(one.path, one.sha256, one.size_bytes) for one in new.files)
        wanted = NewObject(kind=new.kind, name=new.name, files=files, base=new.base)
        return _version(await self._operations.registry.publish(actor, wanted))

    async def receive(
        self, actor: Actor, sha256: bytes, size_bytes: int, chunks: AsyncIterator[bytes]
    ) -> None:
        """Store a whole blob."""
        await self._operations.models.upload(actor, sha256, size_bytes, chunks)

    async def received_bytes(self, actor: Actor, sha256: bytes) -> int:
        """Return where the account's upload of a blob goes on."""
        (found,) = await self._operations.models.progress(actor, [sha256])
        return found.received_bytes

    async def append(
        self,
        actor: Actor,
        sha256: bytes,
        size_bytes: int,
        offset_bytes: int,
        chunks: AsyncIterator[bytes],
    ) -> int:
        """Continue an upload; return how many bytes have been received."""
        return await self._operations.models.resume(actor, sha256, size_bytes, offset_bytes, chunks)

    async def size_bytes(self, sha256: bytes) -> int | None:
        """Return the size of a stored blob; None: it is not stored."""
        return await self._blobs.size_bytes(sha256)

    def read(
        self, sha256: bytes, offset_bytes: int, length_bytes: int
    ) -> AsyncGenerator[bytes, None]:
        """Yield a part of a stored blob."""
        return self._blobs.read(sha256, offset_bytes, length_bytes)


def _version(one: RegistryObject) -> Version:
    row = one.row
    return Version(
        name=row.name,
        kind=ObjectKind.ADAPTER if isinstance(row, Adapter) else ObjectKind.MODEL,
        revision=one.revision or "0" * 40,
        published_unix_ms=one.publication.published_unix_ms,
        files=tuple(TreeFile(file.path, file.sha256, file.size_bytes) for file in one.files),
        account_id=row.account_id,
        base=row.model if isinstance(row, Adapter) else "",
        licence=one.publication.licence,
    )
