"""Rows of the registry's objects and of what nodes should hold."""

from __future__ import annotations

from protos.domain import resources as d
from protos.v1 import resources_pb2 as r
from protos.wire.enums import HOLD_FROM_WIRE, HOLD_TO_WIRE, SOURCE_FROM_WIRE, SOURCE_TO_WIRE


def decode_desired(payload: bytes) -> d.Resource | None:
    """Return the resource of a row, None for a kind this version does not know."""
    row = r.DesiredRow.FromString(payload)
    match row.WhichOneof("resource"):
        case "replica":
            replica = row.replica
            return d.DesiredReplica(
                model=replica.model,
                source=SOURCE_FROM_WIRE[replica.source],
                files=tuple(model_file_from_wire(file) for file in replica.files),
                context_tokens=replica.context_tokens,
                hold=HOLD_FROM_WIRE[replica.hold],
                runtime=runtime_from_wire(replica.runtime) if replica.HasField("runtime") else None,
                swap_key=replica.swap_key,
            )
        case "adapter":
            adapter = row.adapter
            return d.DesiredAdapter(
                adapter=adapter.adapter,
                model=adapter.model,
                rank=adapter.rank,
                files=tuple(model_file_from_wire(file) for file in adapter.files),
                hold=HOLD_FROM_WIRE[adapter.hold],
            )
    return None


def model_to_wire(model: d.Model) -> r.Model:
    return r.Model(
        name=model.name,
        source=SOURCE_TO_WIRE[model.source],
        family=model.family,
        size_class=model.size_class,
        context_tokens=model.context_tokens,
        weights_bytes=model.weights_bytes,
        manifest_sha256=model.manifest_sha256,
        swap_key=model.swap_key,
        account_id=model.account_id,
    )


def model_from_wire(model: r.Model) -> d.Model:
    return d.Model(
        name=model.name,
        source=SOURCE_FROM_WIRE[model.source],
        family=model.family,
        size_class=model.size_class,
        context_tokens=model.context_tokens,
        weights_bytes=model.weights_bytes,
        manifest_sha256=model.manifest_sha256,
        swap_key=model.swap_key,
        account_id=model.account_id,
    )


def adapter_to_wire(adapter: d.Adapter) -> r.Adapter:
    return r.Adapter(
        name=adapter.name,
        model=adapter.model,
        rank=adapter.rank,
        weights_bytes=adapter.weights_bytes,
        manifest_sha256=adapter.manifest_sha256,
        account_id=adapter.account_id,
    )


def adapter_from_wire(adapter: r.Adapter) -> d.Adapter:
    return d.Adapter(
        name=adapter.name,
        model=adapter.model,
        rank=adapter.rank,
        weights_bytes=adapter.weights_bytes,
        manifest_sha256=adapter.manifest_sha256,
        account_id=adapter.account_id,
    )


def runtime_to_wire(runtime: d.Runtime) -> r.Runtime:
    return r.Runtime(
        name=runtime.name,
        engine_kind=runtime.engine_kind,
        version_constraint=runtime.version_constraint,
        args=runtime.args,
        load_format=runtime.load_format,
        accelerators=runtime.accelerators,
        account_id=runtime.account_id,
    )


def runtime_from_wire(runtime: r.Runtime) -> d.Runtime:
    return d.Runtime(
        name=runtime.name,
        engine_kind=runtime.engine_kind,
        version_constraint=runtime.version_constraint,
        args=tuple(runtime.args),
        load_format=runtime.load_format,
        accelerators=tuple(runtime.accelerators),
        account_id=runtime.account_id,
    )


def model_file_to_wire(file: d.ModelFile) -> r.ModelFile:
    return r.ModelFile(
        path=file.path,
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        pieces_sha256=file.pieces_sha256,
    )


def model_file_from_wire(file: r.ModelFile) -> d.ModelFile:
    return d.ModelFile(
        path=file.path,
        sha256=file.sha256,
        size_bytes=file.size_bytes,
        pieces_sha256=file.pieces_sha256,
    )


def desired_to_wire(desired: d.DesiredReplica) -> r.DesiredReplica:
    return r.DesiredReplica(
        model=desired.model,
        source=SOURCE_TO_WIRE[desired.source],
        files=[model_file_to_wire(file) for file in desired.files],
        context_tokens=desired.context_tokens,
        hold=HOLD_TO_WIRE[desired.hold],
        runtime=None if desired.runtime is None else runtime_to_wire(desired.runtime),
        swap_key=desired.swap_key,
    )


def desired_adapter_to_wire(desired: d.DesiredAdapter) -> r.DesiredAdapter:
    return r.DesiredAdapter(
        adapter=desired.adapter,
        model=desired.model,
        rank=desired.rank,
        files=[model_file_to_wire(file) for file in desired.files],
        hold=HOLD_TO_WIRE[desired.hold],
    )
