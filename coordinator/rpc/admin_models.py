"""The registry: uploads of blobs, then registration of the model that names them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from coordinator.blobs.store import CHUNK_BYTES
from coordinator.rpc.admin_parts import AdminServicerBase, note_of
from coordinator.rpc.model_import import ImportedModel, inspect_model
from protos.domain.errors import DeadlineExceeded, InvalidRequest, TooLarge
from protos.domain.ids import check_model_name
from protos.domain.manifest import MAX_CONTEXT_TOKENS, MAX_FILES, manifest_sha256
from protos.domain.pricing import SIZE_CLASSES, size_class_of
from protos.domain.resources import Model, ModelSource
from protos.v1 import admin_pb2, resources_pb2
from protos.wire import model_file_from_wire, model_source_from_wire, model_to_wire

if TYPE_CHECKING:
    from coordinator.rpc.identity import Context

#: Longest silence of an upload.
UPLOAD_IDLE_S = 60.0


class ModelAdminServicer(AdminServicerBase):
    """Blobs and models."""

    async def FindMissingBlobs(
        self, request: admin_pb2.FindMissingBlobsRequest, context: Context
    ) -> admin_pb2.FindMissingBlobsResponse:
        """Return which of the blobs have not been uploaded yet."""
        if len(request.sha256) > MAX_FILES:
            raise InvalidRequest(f"{len(request.sha256)} blobs are more than {MAX_FILES}")
        missing = await asyncio.to_thread(self._parts.blobs.missing, tuple(request.sha256))
        return admin_pb2.FindMissingBlobsResponse(sha256=missing)

    async def UploadBlob(
        self,
        request_iterator: AsyncIterator[admin_pb2.UploadBlobRequest],
        context: Context,
    ) -> admin_pb2.UploadBlobResponse:
        """Receive one file; it is kept only if it is complete and its digest is right."""
        first = await _next(request_iterator)
        if first is None:
            raise InvalidRequest("the upload is empty", "send sha256 and size_bytes first")
        await self._parts.blobs.write(
            first.sha256, first.size_bytes, _data_of(first, request_iterator)
        )
        note = note_of(
            context, "blob.upload", f"blob/{first.sha256.hex()}", f"size_bytes={first.size_bytes}"
        )
        await self._store.audit(note.actor, note.action, note.subject, note.detail)
        return admin_pb2.UploadBlobResponse(size_bytes=first.size_bytes)

    async def RegisterModel(
        self, request: admin_pb2.RegisterModelRequest, context: Context
    ) -> resources_pb2.Model:
        """Register a managed model whose files are all here, or an external one without files."""
        check_model_name(request.name)
        source = model_source_from_wire(request.source)
        if request.size_class and request.size_class not in SIZE_CLASSES:
            raise InvalidRequest(
                f"{request.size_class[:20]!r} is not a size class", "use " + ", ".join(SIZE_CLASSES)
            )
        files = [model_file_from_wire(file) for file in request.files]
        if source is ModelSource.MANAGED:
            facts = await inspect_model(files, self._parts.blobs)
        else:
            facts = _external_facts(request)
        model = Model(
            name=request.name,
            source=source,
            family=facts.family,
            size_class=request.size_class or size_class_of(facts.weights_bytes),
            context_tokens=_context_tokens(request.context_tokens, facts),
            weights_bytes=facts.weights_bytes,
            manifest_sha256=manifest_sha256(files) if files else b"",
        )
        detail = f"source={source} files={len(files)} manifest_sha256={model.manifest_sha256.hex()}"
        await self._store.put_model(
            model, files, note=note_of(context, "model.register", f"model/{model.name}", detail)
        )
        return model_to_wire(model)

    async def ListModels(
        self, request: admin_pb2.ListModelsRequest, context: Context
    ) -> admin_pb2.ListModelsResponse:
        """Return every model by name."""
        models = sorted(self._store.view().models.values(), key=lambda model: model.name)
        return admin_pb2.ListModelsResponse(models=[model_to_wire(model) for model in models])


async def _next(
    messages: AsyncIterator[admin_pb2.UploadBlobRequest],
) -> admin_pb2.UploadBlobRequest | None:
    """Return the next message, None at the end. Raises: DeadlineExceeded."""
    try:
        async with asyncio.timeout(UPLOAD_IDLE_S):
            return await anext(messages, None)
    except TimeoutError:
        raise DeadlineExceeded(
            f"the upload was silent for {UPLOAD_IDLE_S:.0f} s", "run the import again"
        ) from None


async def _data_of(
    first: admin_pb2.UploadBlobRequest, rest: AsyncIterator[admin_pb2.UploadBlobRequest]
) -> AsyncIterator[bytes]:
    message: admin_pb2.UploadBlobRequest | None = first
    while message is not None:
        if len(message.data) > CHUNK_BYTES:
            raise TooLarge(f"a message of an upload holds at most {CHUNK_BYTES} bytes")
        if message.data:
            yield message.data
        message = await _next(rest)


def _external_facts(request: admin_pb2.RegisterModelRequest) -> ImportedModel:
    if request.files:
        raise InvalidRequest(
            "an external model has no files here", "leave them out, or register it as managed"
        )
    if not request.context_tokens:
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
