"""Models pulled from the coordinator over mutual TLS: cut, wrong, resumed; used when verified."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.artifacts.objects import ObjectStore
from agent.artifacts.sources import DigestMismatch
from agent.link.blobs import BlobSource
from agent.link.channel import node_channel
from agent.link.identity import load_stored
from protos.domain.errors import EdgeForgeError, InvalidRequest, LinkDown, NotFound
from protos.domain.pieces import PIECE_BYTES, join_digests
from protos.domain.resources import DesiredAdapter, Residency
from tests.support.pulled_objects import CONFIG, digests_of, file_of, make_store, model_of, noise
from tests.support.scripted_coordinator import ScriptedCoordinator
from tests.support.waiting import wait_until_async

WEIGHTS = noise(3 * PIECE_BYTES + 12_345)
SMALL = noise(100_000, 1)
WHOLE = model_of(file_of("config.json", CONFIG), file_of("model.safetensors", WEIGHTS))
OLD = model_of(file_of("config.json", CONFIG), file_of("model.safetensors", WEIGHTS, pieces=False))


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[ScriptedCoordinator]:
    scripted = ScriptedCoordinator(tmp_path)
    await scripted.start()
    for data in (CONFIG, WEIGHTS, SMALL):
        scripted.blobs[hashlib.sha256(data).digest()] = data
    yield scripted
    await scripted.stop()


@pytest.fixture
def store(coordinator: ScriptedCoordinator, tmp_path: Path) -> ObjectStore:
    identity = tmp_path / "identity"
    coordinator.enrol(identity)
    origin = BlobSource(lambda: node_channel(coordinator.address, load_stored(identity)))
    return make_store(tmp_path, origin)


async def test_a_model_is_pulled_verified_and_published(coordinator, store) -> None:
    assert store.residency(WHOLE) is Residency.ORIGIN
    path = await store.ensure(WHOLE)
    assert store.residency(WHOLE) is Residency.DISK
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    assert (path / "config.json").read_bytes() == CONFIG
    pulled = store.stats.pulled_bytes
    assert pulled == len(WEIGHTS) + len(CONFIG)
    assert await store.ensure(WHOLE) == path
    assert store.stats.pulled_bytes == pulled


@pytest.mark.parametrize("order", [WHOLE, OLD], ids=["pieces", "whole"])
async def test_of_a_coordinator_that_knows_no_pieces_the_whole_file_is_pulled(
    coordinator, store, order
) -> None:
    coordinator.knows_lengths = False
    path = await store.ensure(order)
    assert (path / "model.safetensors").read_bytes() == WEIGHTS


async def test_an_adapter_is_pulled_beside_models(coordinator, store) -> None:
    adapter = DesiredAdapter(
        "acme/fr@1", "acme/small@1", 8, (file_of("adapter_model.safetensors", SMALL),)
    )
    path = await store.ensure(adapter)
    assert (path / "adapter_model.safetensors").read_bytes() == SMALL


async def test_a_pull_that_was_cut_asks_only_for_what_is_missing(coordinator, store) -> None:
    coordinator.cut_blob_after = 100_000
    path = await store.ensure(WHOLE)
    assert (path / "model.safetensors").read_bytes() == WEIGHTS
    assert len(coordinator.blob_offsets) == 6  # five pieces, one of them twice


async def test_pieces_that_are_not_the_files_are_never_published(
    coordinator, store, tmp_path
) -> None:
    digest = hashlib.sha256(WEIGHTS).digest()
    coordinator.piece_lists[digest] = join_digests(digests_of(WEIGHTS))
    coordinator.blobs[digest] = WEIGHTS[:-1] + b"!"
    with pytest.raises(DigestMismatch, match="piece 3 of"):
        await store.ensure(WHOLE)
    assert not store.is_complete(WHOLE)
    assert not (tmp_path / "store" / "files" / digest.hex()).exists()
    coordinator.blobs[digest] = WEIGHTS
    path = await store.ensure(WHOLE)
    assert (path / "model.safetensors").read_bytes() == WEIGHTS


async def test_a_piece_list_that_is_not_the_manifests_is_refused(coordinator, store) -> None:
    wrong = WEIGHTS[:PIECE_BYTES] + noise(len(WEIGHTS) - PIECE_BYTES, 9)
    coordinator.blobs[hashlib.sha256(WEIGHTS).digest()] = wrong
    with pytest.raises(DigestMismatch, match="piece list of model"):
        await store.ensure(WHOLE)


async def test_a_whole_file_with_more_bytes_than_the_manifest_says_is_refused(
    coordinator, store
) -> None:
    coordinator.blobs[hashlib.sha256(WEIGHTS).digest()] = WEIGHTS + b"more"
    with pytest.raises(DigestMismatch):
        await store.ensure(OLD)


@pytest.mark.parametrize("path", ["../evil.json", "/etc/passwd.json", "model.bin", "a\\b.json"])
async def test_a_manifest_that_reaches_out_is_refused_before_anything_is_pulled(
    coordinator, store, path
) -> None:
    with pytest.raises(InvalidRequest):
        await store.ensure(model_of(*WHOLE.files, file_of(path, CONFIG)))
    adapter = DesiredAdapter("acme/fr@1", "acme/small@1", 8, (file_of(path, CONFIG),))
    with pytest.raises(InvalidRequest):
        await store.ensure(adapter)
    assert coordinator.blob_offsets == []


async def test_equal_files_of_one_model_are_pulled_once(coordinator, store) -> None:
    path = await store.ensure(model_of(*WHOLE.files, file_of("again.json", CONFIG)))
    assert (path / "again.json").read_bytes() == CONFIG
    assert len(coordinator.blob_offsets) == 5


async def test_two_models_with_a_common_file_pull_it_once(coordinator, store) -> None:
    other = model_of(*WHOLE.files, file_of("more.json", SMALL), name="acme/other@1")
    first, second = await asyncio.gather(store.ensure(WHOLE), store.ensure(other))
    assert (first / "config.json").samefile(second / "config.json")
    assert store.stats.pulled_bytes == len(WEIGHTS) + len(CONFIG) + len(SMALL)


async def test_a_thousand_who_want_an_object_cause_one_pull(coordinator, store) -> None:
    paths = await asyncio.gather(*(store.ensure(WHOLE) for _ in range(1_000)))
    assert set(paths) == {store.path_of(WHOLE)}
    assert len(coordinator.blob_offsets) == 5


async def test_one_of_several_who_gives_up_ends_no_pull(coordinator, store) -> None:
    first = asyncio.create_task(store.ensure(WHOLE))
    second = asyncio.create_task(store.ensure(WHOLE))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == store.path_of(WHOLE)


async def test_an_order_that_is_withdrawn_ends_its_pull_and_keeps_what_came(
    coordinator, store, tmp_path
) -> None:
    store.set_desired({WHOLE.model: WHOLE}, {})
    coordinator.hold_after = 2
    pull = asyncio.create_task(store.ensure(WHOLE))
    await wait_until_async(lambda: store.stats.pulled_bytes > PIECE_BYTES, 20, "a piece")
    store.set_desired({}, {})
    with pytest.raises(NotFound, match="no longer"):
        await pull
    assert not store.progress()
    before = store.stats.pulled_bytes
    coordinator.hold_after = None
    store.set_desired({WHOLE.model: WHOLE}, {})
    await store.ensure(WHOLE)
    assert store.stats.pulled_bytes == len(WEIGHTS) + len(CONFIG)
    assert before > PIECE_BYTES


async def test_a_pull_without_its_coordinator_ends_with_the_reason(coordinator, store) -> None:
    await coordinator.stop()
    with pytest.raises(LinkDown):
        await store.ensure(WHOLE)
    assert store.progress() == {}
    store.set_desired({WHOLE.model: WHOLE}, {})
    with pytest.raises(EdgeForgeError):
        await store.ensure(WHOLE)
    assert store.progress()[WHOLE.model].error
