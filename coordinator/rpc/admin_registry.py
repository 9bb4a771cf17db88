"""The registry's service: objects of every kind, and uploads that continue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from coordinator.operations.registry_objects import NewObject, Published, RegistryObject
from coordinator.rpc.admin_base import AdminServicerBase
from coordinator.rpc.upload_stream import data_of, next_message
from protos.domain.errors import InvalidRequest
from protos.domain.object_names import ObjectKind
from protos.domain.resources import Adapter, Model, Runtime
from protos.v1 import registry_pb2, registry_pb2_grpc
from protos.wire import (
    adapter_to_wire,
    model_file_from_wire,
    model_file_to_wire,
    model_to_wire,
    runtime_from_wire,
    runtime_to_wire,
)

if TYPE_CHECKING:
    from coordinator.rpc.identity import Context

_KINDS = {
    registry_pb2.OBJECT_KIND_MODEL: ObjectKind.MODEL,
    registry_pb2.OBJECT_KIND_ADAPTER: ObjectKind.ADAPTER,
    registry_pb2.OBJECT_KIND_RUNTIME: ObjectKind.RUNTIME,
}


class RegistryService(AdminServicerBase, registry_pb2_grpc.RegistryServicer):
    """Every call of ``registry.proto``: a request, a use case, a message."""

    async def FindUploads(
        self, request: registry_pb2.FindUploadsRequest, context: Context
    ) -> registry_pb2.FindUploadsResponse:
        """Return where each upload continues."""
        found = await self._operations.models.progress(self._actor(context), request.sha256)
        return registry_pb2.FindUploadsResponse(
            uploads=[
                registry_pb2.UploadProgress(
                    sha256=one.sha256,
                    received_bytes=one.received_bytes,
                    is_stored=one.is_stored,
                )
                for one in found
            ]
        )

    async def Upload(
        self, request_iterator: AsyncIterator[registry_pb2.UploadRequest], context: Context
    ) -> registry_pb2.UploadResponse:
        """Receive a file from where it stopped; what arrives before an error stays."""
        first = await next_message(request_iterator)
        if first is None:
            raise InvalidRequest("the upload is empty", "send sha256 and size_bytes first")
        received_bytes = await self._operations.models.resume(
            self._actor(context),
            first.sha256,
            first.size_bytes,
            first.offset_bytes,
            data_of(first, request_iterator),
        )
        return registry_pb2.UploadResponse(received_bytes=received_bytes)

    async def Publish(
        self, request: registry_pb2.PublishRequest, context: Context
    ) -> registry_pb2.RegistryObject:
        """Publish a version whose files are all here."""
        new = NewObject(
            kind=_kind(request.kind),
            name=request.name,
            files=tuple(map(model_file_from_wire, request.files)),
            base=request.base,
            runtime=runtime_from_wire(request.runtime) if request.HasField("runtime") else None,
            context_tokens=request.context_tokens,
            account_id=request.account_id,
            source=request.source,
            licence=request.licence,
        )
        return _object(await self._operations.registry.publish(self._actor(context), new))

    async def Resolve(
        self, request: registry_pb2.ObjectRequest, context: Context
    ) -> registry_pb2.ResolveResponse:
        """Return the full name that a reference means."""
        name = await self._operations.registry.resolve(
            self._actor(context), request.ref, _kind(request.kind)
        )
        return registry_pb2.ResolveResponse(name=name)

    async def ShowObject(
        self, request: registry_pb2.ObjectRequest, context: Context
    ) -> registry_pb2.RegistryObject:
        """Return a version with its files and its users."""
        return _object(
            await self._operations.registry.show(
                self._actor(context), request.ref, _kind(request.kind)
            )
        )

    async def ListObjects(
        self, request: registry_pb2.ListObjectsRequest, context: Context
    ) -> registry_pb2.ListObjectsResponse:
        """Return every version of a kind by name."""
        found = await self._operations.registry.list_all(self._actor(context), _kind(request.kind))
        objects = [_object(one) for one in found]
        for one in objects:
            del one.files[:]
        return registry_pb2.ListObjectsResponse(objects=objects)

    async def RemoveObject(
        self, request: registry_pb2.ObjectRequest, context: Context
    ) -> registry_pb2.RemoveObjectResponse:
        """Remove a version that nothing uses."""
        name = await self._operations.registry.remove(
            self._actor(context), request.ref, _kind(request.kind)
        )
        return registry_pb2.RemoveObjectResponse(name=name)

    async def VerifyObject(
        self, request: registry_pb2.ObjectRequest, context: Context
    ) -> registry_pb2.VerifyObjectResponse:
        """Read every byte of a version again."""
        done = await self._operations.registry.verify(
            self._actor(context), request.ref, _kind(request.kind)
        )
        return registry_pb2.VerifyObjectResponse(
            name=done.name,
            files=len(done.files),
            size_bytes=sum(file.size_bytes for file in done.files),
            problems=[
                registry_pb2.FileProblem(path=path, problem=problem)
                for path, problem in done.problems.items()
            ],
        )

    async def PortAdapter(
        self, request: registry_pb2.PortAdapterRequest, context: Context
    ) -> registry_pb2.RegistryObject:
        """Publish an adapter for another base."""
        return _object(
            await self._operations.registry.port(
                self._actor(context), request.adapter, request.base, request.name
            )
        )

    async def CompareAdapter(
        self, request: registry_pb2.CompareAdapterRequest, context: Context
    ) -> registry_pb2.RegistryObject:
        """Compare the answers of two adapters that engines serve."""
        return _object(
            await self._operations.registry.compare(
                self._actor(context), request.adapter, request.other
            )
        )


def _kind(value: registry_pb2.ObjectKind.ValueType) -> ObjectKind:
    try:
        return _KINDS[value]
    except KeyError:
        raise InvalidRequest("the kind of object must be model, adapter or runtime") from None


def _object(found: RegistryObject) -> registry_pb2.RegistryObject:
    about = found.publication
    message = registry_pb2.RegistryObject(
        name=found.row.name,
        account_id=found.row.account_id,
        revision=found.revision,
        is_latest=found.is_latest,
        published_by=about.published_by,
        published_unix_ms=about.published_unix_ms,
        source=about.source,
        licence=about.licence,
        ported_from=about.ported_from,
        comparison=about.comparison,
        files=map(model_file_to_wire, found.files),
        used_by=found.used_by,
        is_new=isinstance(found, Published) and found.is_new,
    )
    match found.row:
        case Model():
            message.model.CopyFrom(model_to_wire(found.row))
        case Adapter():
            message.adapter.CopyFrom(adapter_to_wire(found.row))
        case Runtime():
            message.runtime.CopyFrom(runtime_to_wire(found.row))
    return message
