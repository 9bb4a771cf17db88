"""A coordinator's process whose files are in a bucket of a real S3 server."""

from __future__ import annotations

import asyncio
import hashlib
import signal

import pytest
from grpc import aio

from coordinator.blobs.interface import CHUNK_BYTES
from protos.domain.pieces import PIECE_BYTES
from protos.v1 import admin_pb2, registry_pb2, resources_pb2
from protos.v1.registry_pb2_grpc import RegistryStub
from tests.support.coordinator_process import CoordinatorProcess, Operator
from tests.support.model_files import as_messages, model_files, safetensors, upload_of
from tests.support.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY
from tests.support.waiting import wait_until_async

WEIGHTS = safetensors(2 * PIECE_BYTES)
SHA256 = hashlib.sha256(WEIGHTS).digest()
MIDDLE = 5 * CHUNK_BYTES


@pytest.fixture
def coordinator(s3, tmp_path):
    """Initialised, not started."""
    key = tmp_path / "key.toml"
    key.write_text(f'access_key_id = "{ACCESS_KEY}"\nsecret_access_key = "{SECRET_KEY}"\n')
    key.chmod(0o600)
    blobs = f'url = "s3://{BUCKET}/fleet"\nendpoint = "{s3.endpoint}"\n'
    process = CoordinatorProcess(tmp_path, f'[blobs]\n{blobs}credentials_file = "key.toml"\n')
    process.init_here()
    yield process
    process.stop(signal.SIGKILL)


async def part_of_upload(start, end, may_end=None):
    yield registry_pb2.UploadRequest(sha256=SHA256, size_bytes=len(WEIGHTS), offset_bytes=start)
    for at in range(start, end, CHUNK_BYTES):
        yield registry_pb2.UploadRequest(data=WEIGHTS[at : min(end, at + CHUNK_BYTES)])
    if may_end is not None:
        await may_end.wait()


async def test_a_coordinator_killed_midway_resumes_the_upload_and_keeps_it_in_the_bucket(
    coordinator,
):
    coordinator.start()
    operator = Operator(coordinator)
    parts = coordinator.state_dir / "blobs" / "incoming"
    never = asyncio.Event()
    call = RegistryStub(operator._channel).Upload(part_of_upload(0, MIDDLE, never))
    await wait_until_async(
        lambda: [part.stat().st_size for part in parts.iterdir()] == [MIDDLE], 60, "the middle"
    )
    coordinator.stop(signal.SIGKILL)
    with pytest.raises(aio.AioRpcError):
        await call
    await operator.close()

    coordinator.start()
    operator = Operator(coordinator)
    registry = RegistryStub(operator._channel)
    asked = registry_pb2.FindUploadsRequest(sha256=[SHA256])
    (found,) = (await registry.FindUploads(asked)).uploads
    assert (found.received_bytes, found.is_stored) == (MIDDLE, False)
    ended = await registry.Upload(part_of_upload(MIDDLE, len(WEIGHTS)))
    assert ended.received_bytes == len(WEIGHTS)
    files = model_files(model__safetensors=WEIGHTS)
    for data in files.values():
        await operator.admin.UploadBlob(upload_of(data))
    model = await operator.admin.RegisterModel(
        admin_pb2.RegisterModelRequest(
            name="acme/tiny@1",
            source=resources_pb2.MODEL_SOURCE_MANAGED,
            files=as_messages(files),
        )
    )
    assert model.weights_bytes == len(WEIGHTS)
    await operator.close()
    assert coordinator.stop() == 0
    assert not list(parts.iterdir()), "all of it is in the bucket"
    assert not list((coordinator.state_dir / "blobs").glob("??"))
    assert SECRET_KEY not in coordinator.log_text()


def test_a_wrong_key_ends_the_start_with_78(coordinator):
    key = coordinator.folder / "key.toml"
    key.write_text(f'access_key_id = "{ACCESS_KEY}"\nsecret_access_key = "another-secret"\n')
    ended = coordinator.command("serve")
    assert ended.returncode == 78
    assert "refuses the coordinator's credentials" in ended.stderr
    assert "another-secret" not in ended.stderr + ended.stdout
