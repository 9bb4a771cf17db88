"""Blobs beside the registry: registration against the collection, pieces, files for nodes."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import replace

import pytest

from coordinator.blobs import collector as collector_module
from coordinator.blobs.folder import FolderStore
from coordinator.core.fleet_figures import FleetCounters
from coordinator.fleet.blob_upkeep import NamedBlobs, make_blob_upkeep
from coordinator.fleet.file_holders import FileHolders
from coordinator.fleet.files import FleetFiles
from coordinator.operations.models import NewModel
from coordinator.sections.blobs import BlobsSection
from coordinator.store import accounts, deployments, deploys, models, nodes, pops
from coordinator.store.deploys import Seen
from coordinator.store.facts import Manifest
from protos.domain.customers import Account
from protos.domain.errors import Forbidden, InvalidRequest, NotFound, Overloaded, StoreUnavailable
from protos.domain.manifest import manifest_sha256
from protos.domain.pieces import PIECE_BYTES, piece_list_sha256, split_digests
from protos.domain.resources import DesiredAdapter, ModelFile, ModelSource, ResourceType
from tests.support.model_files import model_files, safetensors
from tests.support.operations import actor, operated_fleet
from tests.support.stores import GRU, MODEL, deployment, enrol, registration
from tests.support.waiting import wait_until_async

WEIGHTS = safetensors(PIECE_BYTES + 1_000)
FILES = model_files(model__safetensors=WEIGHTS, chat_template__jinja=b"{{ messages }}")
SHA256 = hashlib.sha256(WEIGHTS).digest()
NAME = "acme/tiny@1"


@pytest.fixture
async def operated(tmp_path):
    """A fleet's state with its use cases, and the blobs that they use."""
    async with operated_fleet(tmp_path) as (fleet, _):
        blobs = FolderStore.open(tmp_path / "own")
        yield fleet.store, blobs, fleet.operations(blobs)


async def chunks_of(data):
    yield data


def new_model(name=NAME):
    files = [
        ModelFile(path, hashlib.sha256(data).digest(), len(data)) for path, data in FILES.items()
    ]
    return NewModel(name, ModelSource.MANAGED, tuple(files))


async def upload(operations):
    for data in FILES.values():
        sha256 = hashlib.sha256(data).digest()
        await operations.models.upload(actor(), sha256, len(data), chunks_of(data))


def upkeep_of(store, blobs, *, now_unix_ms=lambda: 2**53, filled=lambda: None):
    section = BlobsSection(gc_grace_s=60)
    return make_blob_upkeep(
        store,
        blobs,
        section,
        counters=FleetCounters(),
        now_unix_ms=now_unix_ms,
        on_manifests=filled,
    )


async def test_a_registered_manifest_says_the_digests_of_its_pieces(operated):
    store, blobs, operations = operated
    await upload(operations)
    lying = [replace(file, pieces_sha256=b"a client's word") for file in new_model().files]
    model = await operations.models.register(actor(), replace(new_model(), files=tuple(lying)))
    kept = {file.path: file for file in store.manifest(NAME)}
    digests = split_digests(await blobs.piece_list(SHA256))
    assert len(digests) == 2
    assert kept["model.safetensors"].pieces_sha256 == piece_list_sha256(digests)
    assert kept["config.json"].pieces_sha256 == b""
    assert model.manifest_sha256 == manifest_sha256(new_model().files), "pieces are no part of it"


async def test_manifests_of_earlier_versions_get_their_pieces_in_the_background(operated):
    store, blobs, operations = operated
    await upload(operations)
    model = await operations.models.register(actor(), new_model())
    with_them = store.manifest(NAME)
    without = tuple(replace(file, pieces_sha256=b"") for file in with_them)
    await store.write(lambda tx: tx.put_fact(Manifest(NAME, without)))
    filled = []
    pieces = upkeep_of(store, blobs, filled=lambda: filled.append(1)).pieces
    # The fleet's other model has weights that nobody uploaded: it stays as it is.
    assert await pieces.fill() == sum(
        file.size_bytes > PIECE_BYTES for file in store.manifest(MODEL.name)
    )
    assert store.manifest(NAME) == with_them
    assert store.view().models[NAME] == model
    assert filled == [1]
    await pieces.fill()
    assert filled == [1], "nothing is filled twice"


async def test_pieces_are_not_filled_into_another_manifest(operated):
    store, _, operations = operated
    await upload(operations)
    await operations.models.register(actor(), new_model())
    before = store.manifest(NAME)
    await store.write(models.set_pieces(NAME, before[:1]))
    await store.write(models.set_pieces("acme/gone@1", before))
    assert store.manifest(NAME) == before
    assert store.manifest("acme/gone@1") == ()


async def test_a_collection_while_a_model_is_registered_takes_none_of_its_blobs(operated):
    store, blobs, operations = operated
    await upload(operations)
    collector = upkeep_of(store, blobs).collector
    await blobs.trial_place.acquire()  # the trial of its template waits for another's
    async with asyncio.TaskGroup() as group:
        registering = group.create_task(operations.models.register(actor(), new_model()))
        await wait_until_async(lambda: blobs._leases.is_held(SHA256), 30, "the registration")
        assert (await collector.collect()).blobs == 0
        assert not registering.done()
        blobs.trial_place.release()
    assert registering.result().name == NAME
    assert (await collector.collect()).blobs == 0, "named now"
    assert await blobs.size_bytes(SHA256) == len(WEIGHTS)


async def test_blobs_that_were_collected_before_a_registration_are_asked_for_again(operated):
    store, blobs, operations = operated
    await upload(operations)
    assert (await upkeep_of(store, blobs).collector.collect()).blobs == len(FILES)
    with pytest.raises(InvalidRequest, match="have not been uploaded") as caught:
        await operations.models.register(actor(), new_model())
    assert "run the import again" in caught.value.hint


async def test_a_collection_that_fails_is_tried_again(operated, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    store, blobs, operations = operated
    await upload(operations)
    failures = [StoreUnavailable("the disk is gone"), RuntimeError("a bug")]
    list_all = blobs.list_all

    async def sometimes():
        if failures:
            raise failures.pop()
        return await list_all()

    monkeypatch.setattr(blobs, "list_all", sometimes)
    monkeypatch.setattr(collector_module, "INTERVAL_S", 0)
    upkeep = upkeep_of(store, blobs)
    async with asyncio.TaskGroup() as group:
        tasks = upkeep.start(group)
        await wait_until_async(lambda: "collected blobs=" in caplog.text, 30, "a collection")
        for task in tasks:
            task.cancel()
    assert "the disk is gone" in caplog.text
    assert "a bug" in caplog.text
    assert await blobs.size_bytes(SHA256) is None


async def test_what_is_named_follows_the_store(operated):
    store, _, operations = operated
    named = NamedBlobs(store)
    assert SHA256 not in named()
    await upload(operations)
    await operations.models.register(actor(), new_model())
    assert SHA256 in named()
    assert named() is named()
    await store.write(lambda tx: tx.remove_fact(Manifest.TYPE, NAME))
    assert SHA256 not in named()


# Files for nodes.


@pytest.fixture
async def sending(store, tmp_path):
    """A node that is pinned to a deployment, and another; the weights are stored."""
    await store.write(pops.put(GRU))
    for node_id in ("gru-1", "gru-2"):
        await enrol(store, node_id)
        await store.write(nodes.register(registration(node_id)))
    blobs = FolderStore.open(tmp_path / "blobs")
    await blobs.write(SHA256, len(WEIGHTS), chunks_of(WEIGHTS))
    files = FleetFiles(
        blobs,
        FileHolders(store),
        max_streams=2,
        max_streams_per_node=1,
        counters=FleetCounters(),
    )
    return store, blobs, files


FILE = ModelFile("adapter_model.safetensors", SHA256, len(WEIGHTS))


async def sent(files, node_id, offset_bytes=0, **asked):
    got = []

    async def write(chunk):
        got.append(chunk)

    await files.send(node_id, SHA256, offset_bytes, write, **asked)
    return b"".join(got)


async def should_hold_adapter(store, node_id):
    row = DesiredAdapter("acme/fr@1", MODEL.name, 16, (FILE,))
    await store.write(lambda tx: tx.put(row, node_id) and None)


async def hold_nothing(store, node_id):
    def write(tx):
        for key in tx.keys(ResourceType.DESIRED, scope=node_id):
            tx.remove(ResourceType.DESIRED, key, node_id)

    await store.write(write)


async def test_a_node_gets_ranges_and_the_piece_list_of_an_adapter_it_should_hold(sending):
    store, blobs, files = sending
    with pytest.raises(Forbidden):
        await sent(files, "gru-1")
    await should_hold_adapter(store, "gru-1")
    assert await sent(files, "gru-1") == WEIGHTS
    span = await sent(files, "gru-1", PIECE_BYTES, length_bytes=500)
    assert span == WEIGHTS[PIECE_BYTES : PIECE_BYTES + 500]
    listed = await sent(files, "gru-1", piece_list=True)
    assert listed == await blobs.piece_list(SHA256)
    for asked in ({}, {"piece_list": True}, {"length_bytes": 1}):
        with pytest.raises(Forbidden):
            await sent(files, "gru-2", **asked)
    await store.write(
        lambda tx: (
            tx.remove(
                ResourceType.DESIRED, tx.keys(ResourceType.DESIRED, scope="gru-1")[0], "gru-1"
            )
            and None
        )
    )
    with pytest.raises(Forbidden):
        await sent(files, "gru-1")


async def test_a_node_gets_what_it_may_hold_by_its_deployments(sending):
    store, _, files = sending
    await store.write(accounts.create(Account("acme")))
    await store.write(models.register(MODEL, [FILE]))
    await store.write(deployments.put(deployment(), ["gru-1"], create_only=True))
    assert await sent(files, "gru-1", length_bytes=10) == WEIGHTS[:10]
    with pytest.raises(Forbidden):
        await sent(files, "gru-2", length_bytes=10)


async def test_a_node_gets_what_a_deployment_is_changed_to_before_the_switch(sending):
    store, _, files = sending
    await store.write(accounts.create(Account("acme")))
    for one in (MODEL, replace(MODEL, name="acme/later@1")):
        await store.write(models.register(one, [FILE] if one is not MODEL else []))
    await store.write(deployments.put(deployment(), ["gru-1"], create_only=True))
    with pytest.raises(Forbidden):
        await sent(files, "gru-1")
    present = store.view().deployments["chat"]
    later = replace(present, model="acme/later@1")
    await store.write(deploys.begin(later, ["gru-1"], "ana", "update", seen=Seen(0)))
    assert await sent(files, "gru-1", length_bytes=10) == WEIGHTS[:10]
    with pytest.raises(Forbidden):
        await sent(files, "gru-2")


async def test_pieces_count_against_the_limits_of_a_node(sending):
    store, _, files = sending
    await should_hold_adapter(store, "gru-1")
    started, may_go_on = asyncio.Event(), asyncio.Event()

    async def slow(_chunk):
        started.set()
        await may_go_on.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(files.send("gru-1", SHA256, 0, slow))
        await started.wait()
        with pytest.raises(Overloaded):
            await sent(files, "gru-1", piece_list=True)
        may_go_on.set()


async def test_a_model_deleted_while_it_is_pulled_is_sent_to_its_end_and_then_refused(sending):
    store, blobs, files = sending
    await should_hold_adapter(store, "gru-1")
    got = []

    async def deleted_meanwhile(chunk):
        if not got:
            await store.write(
                lambda tx: (
                    tx.remove(
                        ResourceType.DESIRED,
                        tx.keys(ResourceType.DESIRED, scope="gru-1")[0],
                        "gru-1",
                    )
                    and None
                )
            )
            (listed,) = await blobs.list_all()
            assert await blobs.remove(listed, lambda: True)
        got.append(chunk)

    await files.send("gru-1", SHA256, 0, deleted_meanwhile)
    assert b"".join(got) == WEIGHTS
    with pytest.raises(Forbidden):
        await sent(files, "gru-1")
    await should_hold_adapter(store, "gru-1")
    with pytest.raises(NotFound):
        await sent(files, "gru-1")
