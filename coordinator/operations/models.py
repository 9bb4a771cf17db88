"""The registry: uploads of blobs, then registration of the model that names them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.blobs.piece_digests import with_pieces
from coordinator.operations.acts import Act
from coordinator.operations.model_import import ImportedModel, inspect_model
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import audit, models
from protos.domain.errors import InvalidRequest
from protos.domain.ids import check_model_name
from protos.domain.manifest import MAX_CONTEXT_TOKENS, MAX_FILES, manifest_sha256
from protos.domain.pricing import SIZE_CLASSES, size_class_of
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
        check_model_name(new.name)
        if new.size_class and new.size_class not in SIZE_CLASSES:
            raise InvalidRequest(
                f"{new.size_class[:20]!r} is not a size class", "use " + ", ".join(SIZE_CLASSES)
            )
        if new.source is not ModelSource.MANAGED:
            return await self._store_model(actor, new, _external_facts(new), ())
        if len(new.files) > MAX_FILES:
            raise InvalidRequest(f"{len(new.files)} files are more than {MAX_FILES}")
        blobs = self._parts.blobs
        # What is collected is never what is being named: both hold the blobs of a lease.
        async with blobs.leased([file.sha256 for file in new.files]):
            facts = await inspect_model(new.files, blobs)
            return await self._store_model(actor, new, facts, await with_pieces(new.files, blobs))

    async def _store_model(
        self, actor: Actor, new: NewModel, facts: ImportedModel, files: Sequence[ModelFile]
    ) -> Model:
        model = Model(
            name=new.name,
            source=new.source,
            family=facts.family,
            size_class=new.size_class or size_class_of(facts.weights_bytes),
            context_tokens=_context_tokens(new.context_tokens, facts),
            weights_bytes=facts.weights_bytes,
            manifest_sha256=manifest_sha256(files) if files else b"",
        )
        detail = (
            f"source={new.source} files={len(files)} manifest_sha256={model.manifest_sha256.hex()}"
        )
        note = note_of(actor, Act.MODEL_REGISTER, f"model/{model.name}", detail)
        await self._store.write(models.register(model, files), note)
        return model

    @use_case(Act.MODEL_LIST)
    async def list_all(self, actor: Actor) -> Sequence[Model]:
        """Return every model by name."""
        return sorted(self._store.view().models.values(), key=lambda model: model.name)


def _external_facts(new: NewModel) -> ImportedModel:
    if new.files:
        raise InvalidRequest(
            "an external model has no files here", "leave them out, or register it as managed"
        )
    if not new.context_tokens:
        raise InvalidRequest(
            "the context of an external model is not given",
            "set context_tokens to the value its engine was started with",
        )
    return ImportedModel("", MAX_CONTEXT_TOKENS, 0)


def _context_tokens(asked: int, facts: ImportedModel) -> int:
    """Return the model's context in tokens; ``asked`` may only shorten it."""
    if asked > facts.context_tokens:
        raise InvalidRequest(
            f"a context of {asked} tokens is more than the model's {facts.context_tokens}",
            "leave context_tokens out to use all of it",
        )
    return asked or facts.context_tokens
