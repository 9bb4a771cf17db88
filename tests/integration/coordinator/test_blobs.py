"""Blobs: complete or absent, bounded in size and number, no partial files."""

from __future__ import annotations

import asyncio
import hashlib
import stat

import pytest

from coordinator.blobs.store import CHUNK_BYTES, BlobStore
from protos.domain.errors import (
    InvalidRequest,
    NotFound,
    Overloaded,
    StoreUnavailable,
    TooLarge,
)
from tests.support.disks import fill_disk
from tests.support.waiting import wait_until_async

DATA = bytes(range(256)) * 10_000
SHA256 = hashlib.sha256(DATA).digest()


@pytest.fixture
def blobs(tmp_path):
    return BlobStore.open(tmp_path / "blobs", max_blob_bytes=10_000_000, max_writers=2)


async def chunks_of(data, size=300_000):
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def whole(blobs, sha256, offset_bytes=0):
    return b"".join([chunk async for chunk in blobs.read(sha256, offset_bytes)])


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_blob_is_read_as_it_was_written(blobs, tmp_path):
    await blobs.write(SHA256, len(DATA), chunks_of(DATA))
    assert await whole(blobs, SHA256) == DATA
    assert blobs.size_bytes(SHA256) == len(DATA)
    (path,) = files_in(tmp_path / "blobs")
    name = SHA256.hex()
    assert path.relative_to(tmp_path / "blobs").parts == (name[:2], name[2:4], name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("offset", [1, CHUNK_BYTES, len(DATA) - 1, len(DATA)])
async def test_reading_from_an_offset(blobs, offset):
    await blobs.write(SHA256, len(DATA), chunks_of(DATA))
    assert await whole(blobs, SHA256, offset) == DATA[offset:]


async def test_chunks_are_bounded(blobs):
    data = bytes(CHUNK_BYTES * 2 + 5)
    sha256 = hashlib.sha256(data).digest()
    await blobs.write(sha256, len(data), chunks_of(data))
    sizes = [len(chunk) async for chunk in blobs.read(sha256)]
    assert sizes == [CHUNK_BYTES, CHUNK_BYTES, 5]


async def test_an_empty_blob(blobs):
    sha256 = hashlib.sha256(b"").digest()
    await blobs.write(sha256, 0, chunks_of(b""))
    assert await whole(blobs, sha256) == b""


async def test_the_start_of_a_blob_is_read_alone(blobs):
    await blobs.write(SHA256, len(DATA), chunks_of(DATA))
    assert await blobs.read_start(SHA256, 10) == DATA[:10]
    assert await blobs.read_start(SHA256, len(DATA) * 2) == DATA


async def test_missing_blobs_are_listed_and_cannot_be_read(blobs):
    await blobs.write(SHA256, len(DATA), chunks_of(DATA))
    other = b"x" * 32
    assert blobs.missing([other, SHA256, other]) == [other]
    with pytest.raises(NotFound):
        await whole(blobs, other)
    with pytest.raises(InvalidRequest, match="behind the end"):
        await whole(blobs, SHA256, len(DATA) + 1)


@pytest.mark.parametrize("name", [b"", b"x" * 31, b"x" * 33, b"../../etc/passwd"])
async def test_names_are_digests(blobs, name):
    with pytest.raises(InvalidRequest):
        blobs.size_bytes(name)
    with pytest.raises(InvalidRequest):
        await blobs.write(name, 1, chunks_of(b"x"))


@pytest.mark.parametrize(
    ("sha256", "size_bytes", "data"),
    [
        (SHA256, len(DATA), DATA[:-1] + b"x"),
        (SHA256, len(DATA), DATA[:-1]),
        (SHA256, len(DATA), DATA + b"x"),
        (b"x" * 32, len(DATA), DATA),
    ],
    ids=["flipped", "short", "long", "another name"],
)
async def test_a_wrong_size_or_digest_is_refused_and_leaves_no_file(
    blobs, tmp_path, sha256, size_bytes, data
):
    with pytest.raises(InvalidRequest):
        await blobs.write(sha256, size_bytes, chunks_of(data))
    assert blobs.size_bytes(sha256) is None
    assert files_in(tmp_path) == []


async def test_too_large_is_refused_before_a_byte_is_read(blobs):
    with pytest.raises(TooLarge):
        await blobs.write(SHA256, 10_000_001, never())


async def never():
    raise AssertionError("must not be read")
    yield b""


async def test_a_stored_blob_is_not_received_again(blobs):
    await blobs.write(SHA256, len(DATA), chunks_of(DATA))
    await blobs.write(SHA256, len(DATA), never())


async def test_writers_are_limited_and_a_cancelled_one_frees_its_slot(blobs, tmp_path):
    gate = asyncio.Event()

    async def stuck():
        yield b"x"
        await gate.wait()

    async with asyncio.TaskGroup() as group:
        slow = [group.create_task(blobs.write(bytes([one]) * 32, 2, stuck())) for one in (1, 2)]
        await wait_until_async(lambda: len(files_in(tmp_path)) == 2, 30, "two being received")
        with pytest.raises(Overloaded):
            await blobs.write(SHA256, len(DATA), chunks_of(DATA))
        for task in slow:
            task.cancel()
    assert files_in(tmp_path) == []
    await blobs.write(SHA256, len(DATA), chunks_of(DATA))


async def test_two_writers_may_upload_the_same_blob(blobs):
    await asyncio.gather(*(blobs.write(SHA256, len(DATA), chunks_of(DATA)) for _ in range(2)))
    assert await whole(blobs, SHA256) == DATA


async def test_leftovers_of_a_killed_process_are_dropped_at_start(blobs, tmp_path):
    (tmp_path / "blobs" / "incoming" / "half").write_bytes(b"x")
    BlobStore.open(tmp_path / "blobs")
    assert files_in(tmp_path) == []


async def test_free_space_for_the_database_is_left(small_disk, caplog):
    blobs = BlobStore.open(small_disk / "blobs", reserve_bytes=900_000)
    data = bytes(300_000)
    with pytest.raises(StoreUnavailable, match="full"):
        await blobs.write(hashlib.sha256(data).digest(), len(data), never())
    assert "disk of the blobs is full" in caplog.text


async def test_a_disk_that_runs_full_while_writing(small_disk):
    blobs = BlobStore.open(small_disk / "blobs", reserve_bytes=0)
    data = bytes(500_000)
    sha256 = hashlib.sha256(data).digest()

    async def others_are_faster():
        yield data[:100_000]
        fill_disk(small_disk)
        yield data[100_000:]

    with pytest.raises(StoreUnavailable, match="full") as caught:
        await blobs.write(sha256, len(data), others_are_faster())
    assert caught.value.retryable
    assert [path.name for path in files_in(small_disk)] == ["ballast"]
    (small_disk / "ballast").unlink()
    await blobs.write(sha256, len(data), chunks_of(data))
    assert await whole(blobs, sha256) == data
