"""Files of models: sent to the nodes that should hold them, resumed at an offset."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc import aio

from agent.link.blobs import BlobSource
from protos.domain.resources import DesiredReplica, ResourceType
from protos.v1 import admin_pb2, fleet_pb2, resources_pb2
from protos.v1.fleet_pb2_grpc import FleetStub
from tests.support.pulled_objects import make_store
from tests.support.scripted_agent import ScriptedAgent
from tests.support.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.coordinator_process import CoordinatorProcess, Operator

TIMEOUT_S = 20.0
MIB = 1024 * 1024


def safetensors(size_bytes: int) -> bytes:
    """Return a well-formed file with one tensor."""
    header = json.dumps(
        {"w": {"dtype": "U8", "shape": [size_bytes], "data_offsets": [0, size_bytes]}}
    ).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + bytes(size_bytes)


CONFIG = json.dumps(
    {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "max_position_embeddings": 2_048,
        "vocab_size": 32,
        "hidden_size": 8,
    }
).encode()
FILES = {
    "config.json": CONFIG,
    "special_tokens_map.json": b"{}",
    # More than gRPC's flow control lets through to a reader that has stopped.
    "model.safetensors": safetensors(32 * MIB + 5),
}


async def import_model(operator: Operator, name: str) -> None:
    """Upload and register a small model, as `model import` does."""
    for data in FILES.values():
        await operator.admin.UploadBlob(_parts(data))
    await operator.admin.RegisterModel(
        admin_pb2.RegisterModelRequest(
            name=name,
            source=resources_pb2.MODEL_SOURCE_MANAGED,
            files=[
                resources_pb2.ModelFile(
                    path=path, sha256=hashlib.sha256(data).digest(), size_bytes=len(data)
                )
                for path, data in FILES.items()
            ],
        )
    )


async def _parts(data: bytes) -> AsyncIterator[admin_pb2.UploadBlobRequest]:
    yield admin_pb2.UploadBlobRequest(sha256=hashlib.sha256(data).digest(), size_bytes=len(data))
    for start in range(0, len(data), MIB):
        yield admin_pb2.UploadBlobRequest(data=data[start : start + MIB])


async def fetch(stub: FleetStub, data: bytes, offset_bytes: int = 0) -> list[bytes]:
    request = fleet_pb2.FetchBlobRequest(
        sha256=hashlib.sha256(data).digest(), offset_bytes=offset_bytes
    )
    return [chunk.data async for chunk in stub.FetchBlob(request)]


@pytest.mark.parametrize("coordinator", ["[limits]\nblob_streams_per_node = 1\n"], indirect=True)
async def test_a_node_gets_the_files_of_the_models_it_should_hold(
    coordinator: CoordinatorProcess, operator: Operator, tmp_path: Path
) -> None:
    holder = ScriptedAgent(coordinator, await operator.enrol("gru-1"))
    other = ScriptedAgent(coordinator, await operator.enrol("gru-2"))
    await import_model(operator, "acme/small@1")
    await operator.admin.CreateAccount(admin_pb2.CreateAccountRequest(id="acme"))
    async with holder, other:
        await wait_until_async(
            lambda: len(holder.rows(ResourceType.TOPOLOGY)) == 3, TIMEOUT_S, "both nodes listed"
        )
        await operator.admin.ApplyDeployment(
            admin_pb2.ApplyDeploymentRequest(
                deployment=resources_pb2.Deployment(
                    name="chat",
                    account_id="acme",
                    model="acme/small@1",
                    ttft_budget_ms=80,
                    sla_tier=resources_pb2.SLA_TIER_REALTIME,
                ),
                node_ids=["gru-1"],
            )
        )
        await wait_until_async(
            lambda: holder.rows(ResourceType.DESIRED), TIMEOUT_S, "something to hold"
        )
        (row,) = holder.rows(ResourceType.DESIRED).values()
        assert isinstance(row, DesiredReplica)
        assert {file.path for file in row.files} == set(FILES)
        weights = FILES["model.safetensors"]
        async with holder.channel() as channel:
            stub = FleetStub(channel)
            chunks = await fetch(stub, weights)
            assert b"".join(chunks) == weights
            assert max(map(len, chunks)) <= MIB
            assert b"".join(await fetch(stub, weights, 2 * MIB)) == weights[2 * MIB :]
            with pytest.raises(aio.AioRpcError) as beyond:
                await fetch(stub, weights, len(weights) + 1)
            assert beyond.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            # A transfer that is not read keeps its slot; the next one is refused.
            request = fleet_pb2.FetchBlobRequest(sha256=hashlib.sha256(weights).digest())
            slow = stub.FetchBlob(request)
            await slow.read()
            with pytest.raises(aio.AioRpcError) as busy:
                await fetch(stub, weights)
            assert busy.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            slow.cancel()
        # an agent's own store asks for the list and for pieces, and gets the model
        assert [bool(file.pieces_sha256) for file in row.files].count(True) == 1
        store = make_store(tmp_path, BlobSource(holder.channel))
        store.set_desired({row.model: row}, {})
        path = await store.ensure(row)
        assert {one: (path / one).read_bytes() for one in FILES} == FILES
        assert store.stats.origin_bytes == sum(map(len, FILES.values()))
        async with other.channel() as channel:
            with pytest.raises(aio.AioRpcError) as not_its_own:
                await fetch(FleetStub(channel), weights)
            assert not_its_own.value.code() is grpc.StatusCode.PERMISSION_DENIED
