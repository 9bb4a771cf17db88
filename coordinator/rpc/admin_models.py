"""The registry: uploads of blobs, then registration of the model that names them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from coordinator.operations.models import NewModel
from coordinator.rpc.admin_base import AdminServicerBase
from coordinator.rpc.upload_stream import data_of, next_message
from protos.domain.errors import InvalidRequest
from protos.v1 import admin_pb2, resources_pb2
from protos.wire import model_file_from_wire, model_source_from_wire, model_to_wire

if TYPE_CHECKING:
    from coordinator.rpc.identity import Context


class ModelAdminServicer(AdminServicerBase):
    """Blobs and models."""

    async def FindMissingBlobs(
        self, request: admin_pb2.FindMissingBlobsRequest, context: Context
    ) -> admin_pb2.FindMissingBlobsResponse:
        """Return which of the blobs have not been uploaded yet."""
        missing = await self._operations.models.find_missing(self._actor(context), request.sha256)
        return admin_pb2.FindMissingBlobsResponse(sha256=missing)

    async def UploadBlob(
        self,
        request_iterator: AsyncIterator[admin_pb2.UploadBlobRequest],
        context: Context,
    ) -> admin_pb2.UploadBlobResponse:
        """Receive one file; it is kept only if it is complete and its digest is right."""
        first = await next_message(request_iterator)
        if first is None:
            raise InvalidRequest("the upload is empty", "send sha256 and size_bytes first")
        await self._operations.models.upload(
            self._actor(context),
            first.sha256,
            first.size_bytes,
            data_of(first, request_iterator),
        )
        return admin_pb2.UploadBlobResponse(size_bytes=first.size_bytes)

    async def RegisterModel(
        self, request: admin_pb2.RegisterModelRequest, context: Context
    ) -> resources_pb2.Model:
        """Register a managed model whose files are all here, or an external one without files."""
        new = NewModel(
            name=request.name,
            source=model_source_from_wire(request.source),
            files=tuple(map(model_file_from_wire, request.files)),
            size_class=request.size_class,
            context_tokens=request.context_tokens,
        )
        return model_to_wire(await self._operations.models.register(self._actor(context), new))

    async def ListModels(
        self, request: admin_pb2.ListModelsRequest, context: Context
    ) -> admin_pb2.ListModelsResponse:
        """Return every model by name."""
        models = await self._operations.models.list_all(self._actor(context))
        return admin_pb2.ListModelsResponse(models=map(model_to_wire, models))
