"""What a folder and a bucket of a real S3 server do alike, and what goes wrong with the latter."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import obstore
import pytest

from coordinator.blobs.collector import BlobCollector
from coordinator.blobs.interface import CHUNK_BYTES
from coordinator.blobs.opening import open_blobs
from coordinator.blobs.piece_digests import with_pieces
from coordinator.config import parse_config
from coordinator.core.fleet_figures import FleetCounters
from coordinator.operations.model_import import inspect_model
from protos.domain.errors import (
    ConfigInvalid,
    Conflict,
    InvalidRequest,
    NotFound,
    StoreUnavailable,
    TooLarge,
)
from protos.domain.pieces import piece_count, piece_list_sha256, piece_span, split_digests
from protos.domain.resources import ModelFile
from tests.support.disks import fill_disk
from tests.support.model_files import model_files
from tests.support.s3_server import ACCESS_KEY, BUCKET, SECRET_KEY

DATA = bytes(range(251)) * 80_000
SHA256 = hashlib.sha256(DATA).digest()
SMALL = b"a small file"
SMALL_SHA256 = hashlib.sha256(SMALL).digest()
_PREFIXES = itertools.count()


def s3_section(s3, folder, secret=SECRET_KEY, bucket=BUCKET):
    credentials = folder / "key.toml"
    credentials.write_text(f'access_key_id = "{ACCESS_KEY}"\nsecret_access_key = "{secret}"\n')
    credentials.chmod(0o600)
    return {
        "url": f"s3://{bucket}/test-{next(_PREFIXES)}",
        "endpoint": s3.endpoint,
        "credentials_file": "key.toml",
        "local_copy_max_bytes": 50 * CHUNK_BYTES,
    }


def config_of(folder, blobs, **limits):
    (folder / "state").mkdir(exist_ok=True)
    parsed = {"coordinator": {"state_dir": "state"}, "blobs": blobs, "limits": limits}
    return parse_config(parsed, {}, base=folder)


@pytest.fixture(params=["folder", "s3"])
async def config(request, tmp_path):
    section = {}
    if request.param == "s3":
        section = s3_section(request.getfixturevalue("s3"), tmp_path)
    return config_of(tmp_path, section, max_blob_bytes=30_000_000)


@pytest.fixture
async def open_store(config, clock):
    return lambda: open_blobs(config, clock)


@pytest.fixture
async def blobs(open_store):
    return await open_store()


@pytest.fixture
async def bucket(s3, tmp_path, clock):
    """A store in a bucket of its own prefix."""
    return await open_blobs(config_of(tmp_path, s3_section(s3, tmp_path)), clock)


async def chunks_of(data, size=CHUNK_BYTES):
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def never():
    raise AssertionError("must not be read")
    yield b""


async def whole(blobs, sha256, offset_bytes=0, length_bytes=0):
    return b"".join([chunk async for chunk in blobs.read(sha256, offset_bytes, length_bytes)])


def pieces_of(data):
    spans = (piece_span(index, len(data)) for index in range(piece_count(len(data))))
    return b"".join(hashlib.sha256(data[at : at + length]).digest() for at, length in spans)


async def test_a_blob_is_read_as_it_was_written(blobs, open_store):
    await blobs.write(SHA256, len(DATA), chunks_of(DATA))
    for store in (blobs, await open_store()):
        assert await store.size_bytes(SHA256) == len(DATA)
        assert await whole(store, SHA256) == DATA
        assert max([len(chunk) async for chunk in store.read(SHA256)]) <= CHUNK_BYTES
        assert await store.read_start(SHA256, 10) == DATA[:10]
        assert await store.missing([b"y" * 32, SHA256, b"y" * 32]) == [b"y" * 32]
        await store.write(SHA256, len(DATA), never())


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 1), (5, 0), (3_000_000, 9_000_001), (len(DATA) - 3, 10)]
)
async def test_ranges(blobs, offset, length):
    await blobs.write(SHA256, len(DATA), chunks_of(DATA))
    end = offset + length if length else len(DATA)
    assert await whole(blobs, SHA256, offset, length) == DATA[offset:end]
    assert await whole(blobs, SHA256, len(DATA)) == b""
    with pytest.raises(InvalidRequest, match="behind the end"):
        await whole(blobs, SHA256, len(DATA) + 1)


async def test_an_empty_blob(blobs):
    sha256 = hashlib.sha256(b"").digest()
    await blobs.write(sha256, 0, chunks_of(b""))
    assert await whole(blobs, sha256) == b""
    assert await blobs.piece_list(sha256) == b""


async def test_piece_lists(blobs, open_store):
    await blobs.write(SHA256, len(DATA), chunks_of(DATA))
    await blobs.write(SMALL_SHA256, len(SMALL), chunks_of(SMALL))
    assert await (await open_store()).piece_list(SHA256) == pieces_of(DATA)
    assert await blobs.piece_list(SMALL_SHA256) == SMALL_SHA256
    file = ModelFile("model.safetensors", SHA256, len(DATA), b"what a client says")
    (filled,) = await with_pieces([file], blobs)
    assert filled.pieces_sha256 == piece_list_sha256(split_digests(pieces_of(DATA)))


async def test_what_is_not_there(blobs):
    assert await blobs.size_bytes(SHA256) is None
    with pytest.raises(NotFound):
        await whole(blobs, SHA256)
    with pytest.raises(NotFound):
        await blobs.piece_list(SHA256)
    with pytest.raises(NotFound):
        async with blobs.local_copy(SHA256):
            raise AssertionError("there is no such blob")


@pytest.mark.parametrize("name", [b"", b"x" * 31, b"../../etc/passwd"])
async def test_names_are_digests(blobs, name):
    for call in (blobs.size_bytes(name), blobs.missing([name]), blobs.received_bytes(name)):
        with pytest.raises(InvalidRequest):
            await call
    with pytest.raises(InvalidRequest):
        await blobs.write(name, 1, chunks_of(b"x"))


@pytest.mark.parametrize(
    "data", [DATA[:-1] + b"x", DATA[:-1], DATA + b"x"], ids=["flipped", "short", "long"]
)
async def test_wrong_bytes_never_get_the_name_and_are_deleted(blobs, data):
    with pytest.raises(InvalidRequest):
        await blobs.write(SHA256, len(DATA), chunks_of(data))
    assert await blobs.missing([SHA256]) == [SHA256]
    assert await blobs.list_all() == []
    assert await blobs.received_bytes(SHA256) == 0


async def test_too_large_is_refused_before_a_byte_is_read(blobs):
    with pytest.raises(TooLarge):
        await blobs.write(SHA256, 30_000_001, never())


async def test_an_upload_is_resumed_by_another_client_after_a_restart(blobs, open_store):
    await blobs.append(SHA256, len(DATA), 0, chunks_of(DATA[:7_000_000]))
    again = await open_store()
    with pytest.raises(Conflict, match="7000000 bytes"):
        await again.append(SHA256, len(DATA), 0, never())
    offset = await again.received_bytes(SHA256)
    assert await again.append(SHA256, len(DATA), offset, chunks_of(DATA[offset:])) == len(DATA)
    assert await whole(again, SHA256) == DATA
    assert await again.piece_list(SHA256) == pieces_of(DATA)


async def test_a_local_copy_has_the_bytes(blobs):
    await blobs.write(SHA256, len(DATA), chunks_of(DATA))
    for _ in range(2):
        async with blobs.local_copy(SHA256) as path:
            assert path.read_bytes() == DATA


async def test_a_model_is_inspected_wherever_its_blobs_are(blobs):
    files = model_files(vocab__json=b'{"a": 0}', chat_template__jinja=b"{{ messages }}")
    manifest = []
    for path, data in files.items():
        sha256 = hashlib.sha256(data).digest()
        await blobs.write(sha256, len(data), chunks_of(data))
        manifest.append(ModelFile(path, sha256, len(data)))
    assert (await inspect_model(manifest, blobs)).family == "llama"


async def test_only_what_is_unnamed_untouched_and_not_leased_is_collected(
    blobs, open_store, clock, config
):
    named = b"named by a manifest"
    found = b"found by an import that has not registered yet"
    leased = b"being registered"
    digests = {}
    for data in (named, found, leased, DATA):
        digests[data] = hashlib.sha256(data).digest()
        await blobs.write(digests[data], len(data), chunks_of(data))
    await blobs.append(SMALL_SHA256, len(SMALL), 0, chunks_of(SMALL[:3]))
    ahead_unix_ms = max(one.touched_unix_ms for one in await blobs.list_all())
    counters = FleetCounters()
    times = {"now": ahead_unix_ms + 50_000}
    collector = BlobCollector(
        blobs,
        lambda: {digests[named]},
        grace_s=60,
        partial_age_s=10**9,
        counters=counters,
        now_unix_ms=lambda: times["now"],
    )
    assert (await collector.collect()).blobs == 0, "within the grace time"
    times["now"] = ahead_unix_ms + 70_000
    plan = await collector.plan()
    assert {one.sha256 for one in plan.remove} == {digests[found], digests[leased], SHA256}
    async with blobs.leased([digests[leased], digests[found]]):
        freed = await collector.collect()
    assert (freed.blobs, freed.blob_bytes) == (1, len(DATA))
    assert (counters.blobs_collected, counters.collected_bytes) == (1, len(DATA))
    assert {one.sha256 for one in await blobs.list_all()} == {
        digests[data] for data in (named, found, leased)
    }
    assert await blobs.missing([SHA256]) == [SHA256]
    await blobs.write(SHA256, len(DATA), chunks_of(DATA))
    assert await whole(blobs, SHA256) == DATA
    assert await blobs.received_bytes(SMALL_SHA256) == 3
    assert await blobs.drop_partials(2**53) == 3


async def test_a_blob_deleted_while_it_is_read_ends_cleanly_or_with_not_found(blobs):
    await blobs.write(SHA256, len(DATA), chunks_of(DATA))
    reading = blobs.read(SHA256)
    read = [await anext(reading)]
    (listed,) = await blobs.list_all()
    assert await blobs.remove(listed, lambda: True)
    try:
        read += [chunk async for chunk in reading]
    except NotFound:
        assert DATA.startswith(b"".join(read))
    else:
        assert b"".join(read) == DATA
    assert await blobs.missing([SHA256]) == [SHA256]


# What only happens with a server.


async def test_a_wrong_key_is_refused_with_a_clear_error(s3, tmp_path, clock, caplog):
    section = s3_section(s3, tmp_path, secret="not-the-secret")
    with pytest.raises(ConfigInvalid, match="refuses the coordinator's credentials") as caught:
        await open_blobs(config_of(tmp_path, section), clock)
    told = caplog.text + str(caught.value) + caught.value.hint
    assert "not-the-secret" not in told


async def test_a_bucket_that_does_not_exist_is_named_at_start(s3, tmp_path, clock):
    section = s3_section(s3, tmp_path, bucket="elsewhere")
    with pytest.raises(ConfigInvalid, match=r"bucket .* does not exist"):
        await open_blobs(config_of(tmp_path, section), clock)


async def test_a_key_that_others_can_read_or_that_is_incomplete_is_refused(s3, tmp_path, clock):
    config = config_of(tmp_path, s3_section(s3, tmp_path))
    key = tmp_path / "key.toml"
    key.chmod(0o644)
    with pytest.raises(ConfigInvalid, match="read by others"):
        await open_blobs(config, clock)
    key.chmod(0o600)
    key.write_text('access_key_id = "a secret, and no quote')
    with pytest.raises(ConfigInvalid, match="cannot be read as TOML") as caught:
        await open_blobs(config, clock)
    assert "a secret" not in str(caught.value)
    key.write_text('access_key_id = "a"\n')
    with pytest.raises(ConfigInvalid, match="has no secret_access_key"):
        await open_blobs(config, clock)


async def test_a_server_gone_midway_is_retryable_and_what_was_received_is_sent_later(s3, bucket):
    first = DATA[:5_000_000]

    async def the_server_goes():
        yield first
        s3.proxy.behave("refuse")
        yield DATA[5_000_000:]

    try:
        with pytest.raises(StoreUnavailable, match="cannot be reached") as caught:
            await bucket.append(SHA256, len(DATA), 0, the_server_goes())
        assert caught.value.retryable
        for call in (bucket.size_bytes(SHA256), bucket.list_all(), bucket.piece_list(SHA256)):
            with pytest.raises(StoreUnavailable):
                await call
    finally:
        s3.proxy.behave("pass")
    offset = await bucket.received_bytes(SHA256)
    assert offset == len(DATA), "kept on this machine"
    assert await bucket.append(SHA256, len(DATA), offset, never_more()) == len(DATA)
    assert await whole(bucket, SHA256) == DATA


async def never_more():
    return
    yield b""


async def test_a_server_gone_while_a_blob_is_read_is_retryable(s3, bucket):
    await bucket.write(SHA256, len(DATA), chunks_of(DATA))
    reading = bucket.read(SHA256)
    read = [await anext(reading)]
    s3.proxy.behave("refuse")
    try:
        with pytest.raises(StoreUnavailable):
            read += [chunk async for chunk in reading]
    finally:
        s3.proxy.behave("pass")
    offset = sum(map(len, read))
    assert b"".join(read) + await whole(bucket, SHA256, offset) == DATA


async def test_a_server_that_is_down_at_start_may_come_later(s3, tmp_path, clock):
    config = config_of(tmp_path, s3_section(s3, tmp_path))
    s3.proxy.behave("refuse")
    try:
        store = await open_blobs(config, clock)
        with pytest.raises(StoreUnavailable):
            await store.write(SMALL_SHA256, len(SMALL), chunks_of(SMALL))
    finally:
        s3.proxy.behave("pass")
    await store.write(SMALL_SHA256, len(SMALL), chunks_of(SMALL))
    assert await whole(store, SMALL_SHA256) == SMALL


async def test_local_copies_are_bounded_and_the_longest_unused_goes(s3, tmp_path, clock):
    section = s3_section(s3, tmp_path) | {"local_copy_max_bytes": CHUNK_BYTES}
    store = await open_blobs(config_of(tmp_path, section), clock)
    contents = [bytes([one]) * 400_000 for one in range(3)]
    digests = [hashlib.sha256(data).digest() for data in contents]
    for data, sha256 in zip(contents, digests, strict=True):
        await store.write(sha256, len(data), chunks_of(data))
        async with store.local_copy(sha256) as path:
            assert path.read_bytes() == data
    copies = {path.name for path in (tmp_path / "state" / "blobs" / "copies").iterdir()}
    assert copies == {one.hex() for one in digests[1:]}
    await store.write(SHA256, len(DATA), chunks_of(DATA))
    with pytest.raises(TooLarge, match="local_copy_max_bytes"):
        async with store.local_copy(SHA256):
            raise AssertionError("it is above the limit")


async def test_the_spool_of_a_bucket_runs_full_and_the_upload_goes_on_later(
    s3, tmp_path, clock, small_disk
):
    config = config_of(small_disk, s3_section(s3, small_disk))
    store = await open_blobs(config, clock)
    store._incoming._limits = store._incoming._limits._replace(reserve_bytes=0)
    data = bytes(500_000)
    sha256 = hashlib.sha256(data).digest()

    async def others_are_faster():
        yield data[:100_000]
        fill_disk(small_disk)
        yield data[100_000:]

    with pytest.raises(StoreUnavailable, match="full") as caught:
        await store.append(sha256, len(data), 0, others_are_faster())
    assert caught.value.retryable
    (small_disk / "ballast").unlink()
    offset = await store.received_bytes(sha256)
    assert offset == 100_000
    await store.append(sha256, len(data), offset, chunks_of(data[offset:]))
    assert await whole(store, sha256) == data
    assert not list(Path(small_disk / "state" / "blobs" / "incoming").iterdir())


async def test_pieces_that_are_not_in_the_bucket_are_made_again(bucket):
    await bucket.write(SHA256, len(DATA), chunks_of(DATA))
    await obstore.delete_async(bucket._store, f"pieces/{SHA256.hex()}")
    assert await bucket.piece_list(SHA256) == pieces_of(DATA)
    kept = await obstore.get_async(bucket._store, f"pieces/{SHA256.hex()}")
    assert bytes(await kept.bytes_async()) == pieces_of(DATA)


async def test_other_bytes_in_the_bucket_are_found_out_before_they_are_used(bucket):
    await bucket.write(SHA256, len(DATA), chunks_of(DATA))
    await obstore.put_async(bucket._store, f"blobs/{SHA256.hex()}", DATA[:-1] + b"!")
    with pytest.raises(StoreUnavailable, match="damaged") as caught:
        async with bucket.local_copy(SHA256):
            raise AssertionError("its bytes are wrong")
    assert not caught.value.retryable
    assert not list((bucket._spool / "copies").iterdir())


async def test_objects_of_others_below_the_prefix_are_left_alone(bucket):
    await obstore.put_async(bucket._store, "blobs/README", b"by hand")
    await obstore.put_async(bucket._store, f"blobs/{'ab' * 31}", b"a short name")
    assert await bucket.list_all() == []
