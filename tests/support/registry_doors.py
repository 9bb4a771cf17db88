"""Publishing in one call, through the use cases or over gRPC."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from coordinator.operations.agents import CanaryResult
from coordinator.operations.registry_objects import NewObject, Published
from coordinator.store import replicas
from protos.domain.object_names import ObjectKind
from protos.domain.resources import ModelFile
from protos.v1 import registry_pb2
from protos.wire import model_file_to_wire
from tests.support.operations import NODE
from tests.support.stores import replica

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor
    from coordinator.operations.operations import Operations
    from protos.v1.registry_pb2_grpc import RegistryAsyncStub
    from tests.support.operations import OperatedFleet

BASE = "acme/base@1"
WIRE_KINDS = {
    ObjectKind.MODEL: registry_pb2.OBJECT_KIND_MODEL,
    ObjectKind.ADAPTER: registry_pb2.OBJECT_KIND_ADAPTER,
    ObjectKind.RUNTIME: registry_pb2.OBJECT_KIND_RUNTIME,
}


def manifest_of(files: Mapping[str, bytes]) -> tuple[ModelFile, ...]:
    """Return the manifest of ``files``."""
    return tuple(
        ModelFile(path, hashlib.sha256(data).digest(), len(data)) for path, data in files.items()
    )


async def publish(
    ops: Operations,
    who: Actor,
    kind: ObjectKind,
    name: str,
    files: Mapping[str, bytes],
    base: str = BASE,
    **fields: Any,
) -> Published:
    """Upload ``files`` and publish them; an adapter for ``base``."""
    for data in {*files.values()}:
        await ops.models.upload(who, hashlib.sha256(data).digest(), len(data), chunks_of(data))
    adapter = {"base": base} if kind is ObjectKind.ADAPTER else {}
    new = NewObject(kind, name, manifest_of(files), **adapter, **fields)
    return await ops.registry.publish(who, new)


async def chunks_of(data: bytes) -> AsyncIterator[bytes]:
    """Yield ``data``."""
    yield data


def upload_messages(
    data: bytes, offset_bytes: int = 0, end: int | None = None, sha256: bytes = b""
) -> Iterator[registry_pb2.UploadRequest]:
    """Yield the messages that upload ``data`` from an offset on, up to ``end``."""
    yield registry_pb2.UploadRequest(
        sha256=sha256 or hashlib.sha256(data).digest(),
        size_bytes=len(data),
        offset_bytes=offset_bytes,
    )
    part = data[offset_bytes:end]
    for start in range(0, len(part), 100_000):
        yield registry_pb2.UploadRequest(data=part[start : start + 100_000])


async def publish_over_grpc(
    registry: RegistryAsyncStub,
    kind: ObjectKind,
    name: str,
    files: Mapping[str, bytes],
    **fields: Any,
) -> registry_pb2.RegistryObject:
    """Upload ``files`` and publish them, as the command line does."""
    for data in {*files.values()}:
        await registry.Upload(upload_messages(data))
    request = registry_pb2.PublishRequest(
        kind=WIRE_KINDS[kind],
        name=name,
        files=map(model_file_to_wire, manifest_of(files)),
        **fields,
    )
    return await registry.Publish(request)


async def serve_adapter(
    fleet: OperatedFleet, name: str, base: str, text: str, node_id: str = NODE
) -> None:
    """Have a node serve an adapter, and answer every canary with ``text``."""
    served = replace(replica(node_id, base), adapter=name)
    await fleet.store.write(replicas.report([served], []))
    fleet.agents.canaries[name] = CanaryResult(text, 8, 20.0, 50.0)
