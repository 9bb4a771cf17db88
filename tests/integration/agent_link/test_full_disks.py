"""Pulls on a disk that really runs full: they pause, say so, and go on by themselves."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.artifacts.objects import ObjectStore
from agent.artifacts.shelf import PieceShelf
from agent.link.blobs import BlobSource
from agent.link.channel import node_channel
from agent.link.identity import load_stored
from protos.domain.errors import StoreUnavailable
from protos.domain.pieces import PIECE_BYTES
from protos.domain.resources import Hold
from tests.support.disks import fill_disk, mount_small_disk, unmount
from tests.support.pulled_objects import CONFIG, file_of, make_store, model_of, noise
from tests.support.scripted_coordinator import ScriptedCoordinator
from tests.support.waiting import wait_until_async

FIRST = noise(PIECE_BYTES, 1)
WEIGHTS = noise(3 * PIECE_BYTES, 2)
CONFIG_FILE = file_of("config.json", CONFIG)
SMALL = model_of(CONFIG_FILE, file_of("model.safetensors", FIRST), name="acme/first@1")
LARGE = model_of(CONFIG_FILE, file_of("model.safetensors", WEIGHTS))


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[ScriptedCoordinator]:
    scripted = ScriptedCoordinator(tmp_path)
    await scripted.start()
    for data in (CONFIG, WEIGHTS, FIRST):
        scripted.blobs[hashlib.sha256(data).digest()] = data
    yield scripted
    scripted.gate.set()
    await scripted.stop()


@pytest.fixture
def disk(tmp_path: Path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount_small_disk(folder, "24m"):
        pytest.skip("needs root to mount a small disk")
    yield folder
    unmount(folder)


def verified_bytes(store: ObjectStore) -> int:
    pull = store.progress().get(LARGE.model)
    return pull.verified_bytes if pull is not None else 0


def origin_of(coordinator: ScriptedCoordinator, folder: Path) -> BlobSource:
    coordinator.enrol(folder / "identity")
    stored = load_stored(folder / "identity")
    return BlobSource(lambda: node_channel(coordinator.address, stored))


async def test_a_disk_that_runs_full_midway_pauses_the_pull_and_serving_goes_on(
    coordinator, tmp_path, disk
) -> None:
    store = make_store(disk, origin_of(coordinator, tmp_path))
    store.set_desired({SMALL.model: SMALL, LARGE.model: LARGE}, {})
    await store.ensure(SMALL)
    coordinator.hold_after = len(coordinator.blob_offsets) + 1
    pull = asyncio.create_task(store.ensure(LARGE))
    await wait_until_async(lambda: verified_bytes(store) > len(CONFIG), 20, "a piece")
    ballast = fill_disk(disk)
    coordinator.gate.set()
    await wait_until_async(lambda: store.disk().trouble, 20, "the trouble to be said")
    progress = store.progress()[LARGE.model]
    assert "the disk is full: acme/small@1 needs" in progress.error
    assert 0 < progress.verified_bytes < progress.total_bytes
    assert store.disk().trouble == progress.error
    piece = PieceShelf(store).open_piece(SMALL.model, SMALL.files[1].sha256.hex(), 0)
    assert piece is not None
    assert piece.read(0, 10) == FIRST[:10]
    piece.close()
    ballast.unlink()
    path = await pull
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    assert store.disk().trouble == ""


async def test_what_cannot_fit_is_refused_with_numbers_before_anything_is_pulled(
    coordinator, tmp_path, disk
) -> None:
    store = make_store(disk, origin_of(coordinator, tmp_path))
    huge = file_of("model.safetensors", WEIGHTS)
    huge = type(huge)(huge.path, huge.sha256, 10**9, huge.pieces_sha256)
    with pytest.raises(StoreUnavailable, match=r"needs 1000000\d\d\d bytes of disk and 9\d+ are"):
        await store.ensure(model_of(CONFIG_FILE, huge))
    assert coordinator.blob_offsets == []


async def test_the_longest_unused_model_makes_room_and_a_hot_one_does_not(
    coordinator, tmp_path
) -> None:
    quota_bytes = 4 * PIECE_BYTES
    store = make_store(tmp_path, origin_of(coordinator, tmp_path), quota_bytes=quota_bytes)
    cold = model_of(*SMALL.files, name=SMALL.model, hold=Hold.ON_DEMAND)
    store.set_desired({cold.model: cold, LARGE.model: LARGE}, {})
    await store.ensure(cold)
    store.hold(cold)
    with pytest.raises(StoreUnavailable, match="held by an engine"):
        await store.ensure(LARGE)
    assert "bytes of disk" in store.disk().trouble
    store.release(cold)
    await store.ensure(LARGE)
    assert not store.is_complete(cold)
    with pytest.raises(StoreUnavailable):
        await store.ensure(cold)
    assert store.is_complete(LARGE)
    assert store.disk().pinned_bytes == len(WEIGHTS) + len(CONFIG)
