"""The registry: uploads of blobs, then registration of the model that names them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.operations.acts import Act
from coordinator.operations.blob_access import check_stored_bytes, withheld
from coordinator.operations.publishing import publish_object
from coordinator.operations.registry_objects import NewObject
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import audit
from protos.domain.errors import InvalidRequest
from protos.domain.manifest import MAX_FILES
from protos.domain.object_names import ObjectKind
from protos.domain.resources import Model, ModelFile, ModelSource

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor


@dataclass(frozen=True, slots=True)
class NewModel:
    """A model to be registered; an empty size class and a context of 0 follow from its files."""

    name: str
    source: ModelSource
    files: tuple[ModelFile, ...] = ()
    size_class: str = ""
    context_tokens: int = 0


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """How much of a blob has been received; its bytes can be named once it ``is_stored``."""

    sha256: bytes
    received_bytes: int
    is_stored: bool


def _blob(sha256: bytes, *_args: object, **_kwargs: object) -> str:
    return f"blob/{sha256.hex()[:64]}"


class Models(UseCases):
    """Blobs and models."""

    @use_case(Act.BLOB_FIND)
    async def find_missing(self, actor: Actor, sha256: Sequence[bytes]) -> Sequence[bytes]:
        """Return which of the blobs have not been uploaded yet. Raises: InvalidRequest."""
        _check_count(sha256)
        missing = {*await self._parts.blobs.missing(tuple(sha256))}
        missing |= withheld(self._parts, actor, sha256)
        return [one for one in dict.fromkeys(sha256) if one in missing]

    @use_case(Act.BLOB_PROGRESS)
    async def progress(self, actor: Actor, sha256: Sequence[bytes]) -> Sequence[UploadProgress]:
        """Return where each upload continues, whichever client began it. Raises: InvalidRequest."""
        _check_count(sha256)
        kept = withheld(self._parts, actor, sha256)
        return [
            await self._progress_of(actor, one, may_name=one not in kept)
            for one in dict.fromkeys(sha256)
        ]

    @use_case(Act.BLOB_UPLOAD, _blob)
    async def upload(
        self, actor: Actor, sha256: bytes, size_bytes: int, data: AsyncIterator[bytes]
    ) -> None:
        """Receive one file; it is kept only if it is complete and its digest is right.

        Raises: InvalidRequest, TooLarge, StoreUnavailable.
        """
        await check_stored_bytes(self._parts, actor, sha256, size_bytes)
        await self._parts.blobs.write(
            sha256,
            size_bytes,
            data,
            owner=actor.account_id,
            proving=bool(withheld(self._parts, actor, [sha256])),
        )
        await self._received(actor, Act.BLOB_UPLOAD, sha256, size_bytes)

    @use_case(Act.BLOB_RESUME, _blob)
    async def resume(
        self,
        actor: Actor,
        sha256: bytes,
        size_bytes: int,
        offset_bytes: int,
        data: AsyncIterator[bytes],
    ) -> int:
        """Receive a file from ``offset_bytes`` on; return how much of it has been received.

        What was received before an error stays, and any client continues it. Raises: Conflict when
        the upload continues elsewhere; InvalidRequest when its bytes are not those of ``sha256``,
        which deletes them; TooLarge, StoreUnavailable.
        """
        await check_stored_bytes(self._parts, actor, sha256, size_bytes)
        received_bytes = await self._parts.blobs.append(
            sha256,
            size_bytes,
            offset_bytes,
            data,
            owner=actor.account_id,
            proving=bool(withheld(self._parts, actor, [sha256])),
        )
        if received_bytes == size_bytes:
            await self._received(actor, Act.BLOB_RESUME, sha256, size_bytes)
        return received_bytes

    async def _progress_of(self, actor: Actor, sha256: bytes, *, may_name: bool) -> UploadProgress:
        size_bytes = await self._parts.blobs.size_bytes(sha256) if may_name else None
        if size_bytes is None:
            received_bytes = await self._parts.blobs.received_bytes(
                sha256, owner=actor.account_id, proving=not may_name
            )
            return UploadProgress(sha256, received_bytes, is_stored=False)
        return UploadProgress(sha256, size_bytes, is_stored=True)

    async def _received(self, actor: Actor, act: Act, sha256: bytes, size_bytes: int) -> None:
        if actor.account_id:
            self._parts.blob_proofs.add(actor.account_id, sha256, size_bytes)
        note = note_of(actor, act, f"blob/{sha256.hex()}", f"size_bytes={size_bytes}")
        await self._store.write(audit.append(note))

    @use_case(Act.MODEL_REGISTER, named("model"))
    async def register(self, actor: Actor, new: NewModel) -> Model:
        """Register a managed model whose files are all here, or an external one without files.

        Raises: InvalidRequest, Conflict.
        """
        wanted = NewObject(
            kind=ObjectKind.MODEL,
            name=new.name,
            files=new.files,
            model_source=new.source,
            size_class=new.size_class,
            context_tokens=new.context_tokens,
        )
        model, _ = await publish_object(self._parts, actor, Act.MODEL_REGISTER, wanted)
        assert isinstance(model, Model)
        return model

    @use_case(Act.MODEL_LIST)
    async def list_all(self, actor: Actor) -> Sequence[Model]:
        """Return every model by name."""
        return sorted(self._store.view().models.values(), key=lambda model: model.name)


def _check_count(sha256: Sequence[bytes]) -> None:
    if len(sha256) > MAX_FILES:
        raise InvalidRequest(f"{len(sha256)} blobs are more than {MAX_FILES}")
