"""Models pulled over mutual TLS: cut, wrong, resumed; nothing is used before it is verified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.artifacts.files import DigestMismatch, FileStore
from agent.artifacts.models import ModelStore
from agent.link.blobs import BlobSource
from agent.link.channel import node_channel
from agent.link.identity import load_stored
from protos.domain.errors import InvalidRequest, LinkDown
from protos.domain.resources import DesiredReplica, ModelFile, ModelSource
from tests.support.scripted_coordinator import ScriptedCoordinator

CONFIG = json.dumps({"architectures": ["LlamaForCausalLM"]}).encode()
WEIGHTS = bytes(range(256)) * 2_000


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[ScriptedCoordinator]:
    scripted = ScriptedCoordinator(tmp_path)
    await scripted.start()
    for data in (CONFIG, WEIGHTS):
        scripted.blobs[hashlib.sha256(data).digest()] = data
    yield scripted
    await scripted.stop()


def stores(coordinator: ScriptedCoordinator, folder: Path) -> tuple[ModelStore, FileStore]:
    identity = folder / "identity"
    coordinator.enrol(identity)
    source = BlobSource(lambda: node_channel(coordinator.address, load_stored(identity)))
    files = FileStore(folder / "store", source.fetch, max_pulls=2)
    return ModelStore(folder / "models", files), files


def file_of(path: str, data: bytes) -> ModelFile:
    return ModelFile(path, hashlib.sha256(data).digest(), len(data))


def desired(*files: ModelFile) -> DesiredReplica:
    return DesiredReplica("acme/small@1", ModelSource.MANAGED, files, 2_048)


WHOLE = desired(file_of("config.json", CONFIG), file_of("model.safetensors", WEIGHTS))


async def test_a_model_is_pulled_verified_and_published(coordinator, tmp_path) -> None:
    models, files = stores(coordinator, tmp_path)
    assert not models.is_complete(WHOLE)
    path = await models.ensure(WHOLE)
    assert models.is_complete(WHOLE)
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    assert (path / "config.json").read_bytes() == CONFIG
    pulled = files.pulled_bytes
    assert await models.ensure(WHOLE) == path
    assert files.pulled_bytes == pulled


async def test_a_pull_that_was_cut_goes_on_where_it_stopped(coordinator, tmp_path) -> None:
    _, files = stores(coordinator, tmp_path)
    weights = file_of("model.safetensors", WEIGHTS)
    coordinator.cut_blob_after = 100_000
    with pytest.raises(LinkDown, match="100000 of"):
        await files.ensure(weights)
    assert not files.path_of(weights).exists()
    path = await files.ensure(weights)
    assert path.read_bytes() == WEIGHTS
    assert coordinator.blob_offsets == [0, 100_000]


async def test_bytes_that_are_not_the_file_are_never_published(coordinator, tmp_path) -> None:
    _, files = stores(coordinator, tmp_path)
    weights = file_of("model.safetensors", WEIGHTS)
    coordinator.blobs[weights.sha256] = WEIGHTS[:-1] + b"!"
    with pytest.raises(DigestMismatch):
        await files.ensure(weights)
    assert not files.path_of(weights).exists()
    coordinator.blobs[weights.sha256] = WEIGHTS
    assert (await files.ensure(weights)).read_bytes() == WEIGHTS
    assert coordinator.blob_offsets == [0, 0]


async def test_more_bytes_than_the_manifest_says_are_refused(coordinator, tmp_path) -> None:
    _, files = stores(coordinator, tmp_path)
    weights = file_of("model.safetensors", WEIGHTS)
    coordinator.blobs[weights.sha256] = WEIGHTS + b"more"
    with pytest.raises(DigestMismatch):
        await files.ensure(weights)


@pytest.mark.parametrize("path", ["../evil.json", "/etc/passwd.json", "model.bin", "a\\b.json"])
async def test_a_manifest_that_reaches_out_is_refused_before_anything_is_pulled(
    coordinator, tmp_path, path
) -> None:
    models, _ = stores(coordinator, tmp_path)
    with pytest.raises(InvalidRequest):
        await models.ensure(desired(*WHOLE.files, file_of(path, CONFIG)))
    assert coordinator.blob_offsets == []


async def test_equal_files_of_one_model_are_pulled_once(coordinator, tmp_path) -> None:
    models, _ = stores(coordinator, tmp_path)
    twice = desired(*WHOLE.files, file_of("again.json", CONFIG))
    path = await models.ensure(twice)
    assert (path / "again.json").read_bytes() == CONFIG
    assert len(coordinator.blob_offsets) == 2
