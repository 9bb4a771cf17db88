"""The registry: uploads of blobs, then registration of the model that names them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.operations.acts import Act
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


def _blob(sha256: bytes, *_args: object, **_kwargs: object) -> str:
    return f"blob/{sha256.hex()[:64]}"


class Models(UseCases):
    """Blobs and models."""

    @use_case(Act.BLOB_FIND)
    async def find_missing(self, actor: Actor, sha256: Sequence[bytes]) -> Sequence[bytes]:
        """Return which of the blobs have not been uploaded yet. Raises: InvalidRequest."""
        if len(sha256) > MAX_FILES:
            raise InvalidRequest(f"{len(sha256)} blobs are more than {MAX_FILES}")
        return await self._parts.blobs.missing(tuple(sha256))

    @use_case(Act.BLOB_UPLOAD, _blob)
    async def upload(
        self, actor: Actor, sha256: bytes, size_bytes: int, data: AsyncIterator[bytes]
    ) -> None:
        """Receive one file; it is kept only if it is complete and its digest is right.

        Raises: InvalidRequest, TooLarge, StoreUnavailable.
        """
        await self._parts.blobs.write(sha256, size_bytes, data)
        note = note_of(actor, Act.BLOB_UPLOAD, f"blob/{sha256.hex()}", f"size_bytes={size_bytes}")
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
