"""Blobs: complete or absent, bounded in size and number, no partial files."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat

import pytest

from coordinator.blobs.folder import FolderStore
from coordinator.blobs.interface import CHUNK_BYTES
from protos.domain.errors import (
    Conflict,
    EdgeForgeError,
    InvalidRequest,
    NotFound,
    Overloaded,
    StoreUnavailable,
    TooLarge,
)
from protos.domain.pieces import piece_count, piece_span
from tests.support.disks import fill_disk
from tests.support.waiting import wait_until_async

DATA = bytes(range(256)) * 10_000
SHA256 = hashlib.sha256(DATA).digest()


@pytest.fixture
def blobs(tmp_path):
    return FolderStore.open(tmp_path / "blobs", max_blob_bytes=10_000_000, max_writers=2)


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
    assert await blobs.size_bytes(SHA256) == len(DATA)
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
    assert await blobs.missing([other, SHA256, other]) == [other]
    with pytest.raises(NotFound):
        await whole(blobs, other)
    with pytest.raises(InvalidRequest, match="behind the end"):
        await whole(blobs, SHA256, len(DATA) + 1)


@pytest.mark.parametrize("name", [b"", b"x" * 31, b"x" * 33, b"../../etc/passwd"])
async def test_names_are_digests(blobs, name):
    with pytest.raises(InvalidRequest):
        await blobs.size_bytes(name)
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
    assert await blobs.size_bytes(sha256) is None
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
    assert [path.stat().st_size for path in files_in(tmp_path)] == [1, 1], "kept to be resumed"
    await blobs.write(SHA256, len(DATA), chunks_of(DATA))


async def test_two_writers_may_upload_the_same_blob(blobs):
    await asyncio.gather(*(blobs.write(SHA256, len(DATA), chunks_of(DATA)) for _ in range(2)))
    assert await whole(blobs, SHA256) == DATA


async def test_leftovers_of_a_killed_process_are_dropped_at_start(blobs, tmp_path):
    (tmp_path / "blobs" / "incoming" / "half").write_bytes(b"x")
    FolderStore.open(tmp_path / "blobs")
    assert files_in(tmp_path) == []


async def test_free_space_for_the_database_is_left(small_disk, caplog):
    blobs = FolderStore.open(small_disk / "blobs", reserve_bytes=900_000)
    data = bytes(300_000)
    with pytest.raises(StoreUnavailable, match="full"):
        await blobs.write(hashlib.sha256(data).digest(), len(data), never())
    assert "disk of the blobs is full" in caplog.text


async def test_a_disk_that_runs_full_while_writing(small_disk):
    blobs = FolderStore.open(small_disk / "blobs", reserve_bytes=0)
    data = bytes(500_000)
    sha256 = hashlib.sha256(data).digest()

    async def others_are_faster():
        yield data[:100_000]
        fill_disk(small_disk)
        yield data[100_000:]

    with pytest.raises(StoreUnavailable, match="full") as caught:
        await blobs.write(sha256, len(data), others_are_faster())
    assert caught.value.retryable
    assert 0 < await blobs.received_bytes(sha256) < len(data), "kept to be resumed"
    (small_disk / "ballast").unlink()
    await blobs.write(sha256, len(data), chunks_of(data))
    assert await whole(blobs, sha256) == data


async def interrupted(data):
    """The stream of a client that dies after ``data``."""
    yield data
    raise ConnectionError("the client is gone")


async def test_an_upload_is_resumed_by_another_client_after_a_restart(blobs, tmp_path):
    with pytest.raises(ConnectionError):
        await blobs.append(SHA256, len(DATA), 0, interrupted(DATA[:1_000_001]))
    again = FolderStore.open(tmp_path / "blobs")
    offset = await again.received_bytes(SHA256)
    assert offset == 1_000_001
    assert await again.append(SHA256, len(DATA), offset, chunks_of(DATA[offset:])) == len(DATA)
    assert await whole(again, SHA256) == DATA
    assert await again.received_bytes(SHA256) == len(DATA)
    assert len(files_in(tmp_path)) == 1


async def test_an_upload_in_parts_keeps_its_hash_state_within_a_process(blobs):
    for start in range(0, len(DATA), 700_000):
        part = DATA[start : start + 700_000]
        received = await blobs.append(SHA256, len(DATA), start, chunks_of(part))
        assert received == start + len(part)
    assert await whole(blobs, SHA256) == DATA


async def test_partial_bytes_that_rotted_on_disk_are_found_out(blobs, tmp_path):
    await blobs.append(SHA256, len(DATA), 0, chunks_of(DATA[:600_000]))
    (part,) = files_in(tmp_path)
    part.write_bytes(b"?" + part.read_bytes()[1:])
    again = FolderStore.open(tmp_path / "blobs")
    with pytest.raises(InvalidRequest, match="what was received is deleted"):
        await again.append(SHA256, len(DATA), 600_000, chunks_of(DATA[600_000:]))
    assert await again.received_bytes(SHA256) == 0
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("offset", [0, 599_999, 600_001])
async def test_resuming_elsewhere_than_at_the_end_says_where(blobs, offset):
    await blobs.append(SHA256, len(DATA), 0, chunks_of(DATA[:600_000]))
    with pytest.raises(Conflict, match="600000 bytes") as caught:
        await blobs.append(SHA256, len(DATA), offset, never())
    assert caught.value.hint == "resume at 600000"


async def test_a_second_client_waits_and_is_told_where_to_resume(blobs):
    gate = asyncio.Event()

    async def slow():
        yield DATA[:500_000]
        await gate.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(blobs.append(SHA256, len(DATA), 0, slow()))
        await wait_until_async(
            lambda: blobs._incoming.is_receiving(SHA256), 30, "the first to be received"
        )
        second = group.create_task(tried(blobs.append(SHA256, len(DATA), 0, chunks_of(DATA))))
        gate.set()
    assert isinstance(second.result(), Conflict)
    assert second.result().hint == "resume at 500000"


async def tried(call):
    try:
        return await call
    except EdgeForgeError as error:
        return error


async def test_a_client_that_never_ends_does_not_hold_others_for_ever(tmp_path):
    blobs = FolderStore.open(tmp_path / "blobs", turn_wait_s=0.01)
    gate = asyncio.Event()

    async def stuck():
        yield b"x"
        await gate.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(blobs.append(SHA256, len(DATA), 0, stuck()))
        await wait_until_async(lambda: files_in(tmp_path), 30, "the first to be received")
        with pytest.raises(Overloaded, match="another client"):
            await blobs.append(SHA256, len(DATA), 0, never())
        gate.set()


async def test_owners_do_not_share_what_is_unfinished(blobs):
    await blobs.append(SHA256, len(DATA), 0, chunks_of(b"spoiled"), owner="mallory")
    assert await blobs.received_bytes(SHA256, owner="acme") == 0
    await blobs.append(SHA256, len(DATA), 0, chunks_of(DATA), owner="acme")
    assert await whole(blobs, SHA256) == DATA


async def test_unfinished_uploads_are_limited_in_bytes_and_number(tmp_path):
    blobs = FolderStore.open(tmp_path / "blobs", max_partial_bytes=1_000_000)
    await blobs.append(SHA256, 900_000, 0, chunks_of(bytes(800_000)))
    with pytest.raises(Overloaded, match="partial_max_bytes"):
        await blobs.append(b"y" * 32, 300_000, 0, never())
    for one in range(63):
        await blobs.append(bytes([one]) * 32, 10, 0, chunks_of(b"x"))
    with pytest.raises(Overloaded, match="64 uploads have begun"):
        await blobs.append(b"y" * 32, 10, 0, never())
    await blobs.append(b"y" * 32, 10, 0, chunks_of(b"x"), owner="acme")


async def test_unfinished_uploads_of_one_account_are_limited_and_others_go_on(tmp_path):
    blobs = FolderStore.open(tmp_path / "blobs", max_partial_bytes_per_owner=1_000)
    await blobs.append(b"x" * 32, 900, 0, chunks_of(bytes(800)), owner="mallory")
    with pytest.raises(Overloaded, match="partial_max_bytes_per_account"):
        await blobs.append(b"y" * 32, 300, 0, never(), owner="mallory")
    await blobs.append(b"y" * 32, 900, 0, chunks_of(b"x"), owner="acme")
    await blobs.append(b"y" * 32, 3_000, 0, chunks_of(b"x"))


async def test_one_account_leaves_places_for_the_uploads_of_others(tmp_path):
    blobs = FolderStore.open(tmp_path / "blobs")
    gate, begun = asyncio.Event(), []

    async def stuck():
        begun.append(True)
        yield b"x"
        await gate.wait()

    async with asyncio.TaskGroup() as group:
        for one in range(4):
            group.create_task(blobs.append(bytes([one]) * 32, 9, 0, stuck(), owner="mallory"))
        await wait_until_async(lambda: len(begun) == 4, 30, "four uploads to begin")
        with pytest.raises(Overloaded, match="of this account"):
            await blobs.append(b"y" * 32, 9, 0, never(), owner="mallory")
        assert await blobs.append(b"y" * 32, 9, 0, chunks_of(b"x"), owner="acme") == 1
        assert await blobs.append(b"z" * 32, 9, 0, chunks_of(b"x")) == 1
        gate.set()


async def test_who_proves_a_stored_blob_is_answered_as_if_it_were_not_there(blobs, tmp_path):
    await blobs.write(SHA256, len(DATA), chunks_of(DATA), owner="acme")
    whose = {"owner": "globex", "proving": True}
    assert await blobs.received_bytes(SHA256, **whose) == 0
    assert await blobs.append(SHA256, len(DATA), 0, chunks_of(DATA[:9]), **whose) == 9
    assert await blobs.received_bytes(SHA256, **whose) == 9
    with pytest.raises(Conflict, match="9 bytes of"):
        await blobs.append(SHA256, len(DATA), 0, never(), **whose)
    with pytest.raises(InvalidRequest, match="is not that of"):
        await blobs.write(SHA256, len(DATA), chunks_of(bytes(len(DATA))), **whose)
    await blobs.write(SHA256, len(DATA), chunks_of(DATA), **whose)
    assert await whole(blobs, SHA256) == DATA
    assert not [one for one in files_in(tmp_path) if one.suffix == ".part"]


async def test_unfinished_uploads_are_dropped_by_age_but_not_in_progress(blobs, tmp_path):
    await blobs.append(SHA256, len(DATA), 0, chunks_of(DATA[:1_000]))
    (part,) = files_in(tmp_path)
    written_unix_ms = part.stat().st_mtime_ns // 1_000_000
    assert await blobs.drop_partials(written_unix_ms) == 0
    gate = asyncio.Event()

    async def slow():
        await gate.wait()
        yield DATA[1_000:]

    async with asyncio.TaskGroup() as group:
        group.create_task(blobs.append(SHA256, len(DATA), 1_000, slow()))
        await wait_until_async(lambda: blobs._incoming.is_receiving(SHA256), 30, "a turn")
        assert await blobs.drop_partials(written_unix_ms + 10_000) == 0
        gate.set()
    assert await whole(blobs, SHA256) == DATA
    await blobs.append(b"y" * 32, 10, 0, chunks_of(b"x"))
    assert await blobs.drop_partials(written_unix_ms + 600_000) == 1
    assert await blobs.received_bytes(b"y" * 32) == 0


async def test_a_range_is_read_alone(blobs):
    await blobs.write(SHA256, len(DATA), chunks_of(DATA))
    parts = [chunk async for chunk in blobs.read(SHA256, 1_000, 1_500_000)]
    assert b"".join(parts) == DATA[1_000:1_501_000]
    assert [chunk async for chunk in blobs.read(SHA256, len(DATA) - 5, 100)] == [DATA[-5:]]


BIG = bytes(range(251)) * 40_000
BIG_SHA256 = hashlib.sha256(BIG).digest()


def pieces_of(data):
    spans = (piece_span(index, len(data)) for index in range(piece_count(len(data))))
    return b"".join(hashlib.sha256(data[at : at + length]).digest() for at, length in spans)


async def test_piece_lists_are_kept_beside_blobs_and_made_for_older_ones(tmp_path):
    blobs = FolderStore.open(tmp_path / "blobs")
    await blobs.write(BIG_SHA256, len(BIG), chunks_of(BIG))
    await blobs.write(SHA256, len(DATA), chunks_of(DATA))
    assert await blobs.piece_list(BIG_SHA256) == pieces_of(BIG)
    assert await blobs.piece_list(SHA256) == SHA256
    (stored,) = [path for path in files_in(tmp_path) if path.suffix == ".pieces"]
    for spoil in (stored.unlink, lambda: stored.write_bytes(b"torn")):
        spoil()
        assert await blobs.piece_list(BIG_SHA256) == pieces_of(BIG)
        assert stored.read_bytes() == pieces_of(BIG)
    with pytest.raises(NotFound):
        await blobs.piece_list(b"y" * 32)


async def test_no_piece_list_is_made_of_a_damaged_blob(tmp_path):
    blobs = FolderStore.open(tmp_path / "blobs")
    await blobs.write(BIG_SHA256, len(BIG), chunks_of(BIG))
    for path in files_in(tmp_path):
        if path.suffix == ".pieces":
            path.unlink()
        else:
            path.write_bytes(b"?" + BIG[1:])
    with pytest.raises(StoreUnavailable, match="damaged"):
        await blobs.piece_list(BIG_SHA256)


async def test_a_blob_is_not_removed_while_it_is_leased_or_received(blobs, tmp_path):
    await blobs.write(SHA256, len(DATA), chunks_of(DATA))
    (listed,) = await blobs.list_all()
    assert (listed.sha256, listed.size_bytes) == (SHA256, len(DATA))
    async with blobs.leased([SHA256]):
        assert not await blobs.remove(listed, lambda: True)
    assert not await blobs.remove(listed, lambda: False)
    assert not await blobs.remove(listed._replace(touched_unix_ms=1), lambda: True)
    reading = blobs.read(SHA256)
    parts = [await anext(reading)]
    assert await blobs.remove(listed, lambda: True)
    assert b"".join(parts + [chunk async for chunk in reading]) == DATA, "read to its end"
    assert await blobs.size_bytes(SHA256) is None
    assert await blobs.list_all() == []
    with pytest.raises(NotFound):
        async with blobs.local_copy(SHA256):
            raise AssertionError("there is no such blob")


async def test_finding_a_blob_touches_it(blobs, tmp_path):
    await blobs.write(SHA256, len(DATA), chunks_of(DATA))
    async with blobs.local_copy(SHA256) as path:
        os.utime(path, (1_000, 1_000))
    assert (await blobs.list_all())[0].touched_unix_ms == 1_000_000
    assert await blobs.missing([SHA256]) == []
    assert (await blobs.list_all())[0].touched_unix_ms > 1_000_000
