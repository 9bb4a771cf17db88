"""The spool on a good disk, a full one and a failing one."""

from __future__ import annotations

import asyncio
import errno
import resource
from pathlib import Path

import pytest

from agent.spool.spool import RESERVED_BYTES, UsageSpool
from protos.domain.errors import ConfigInvalid, StorageFull
from protos.domain.spool import Frame, FrameScanner, seed_of
from protos.domain.usage_record import UsageCause
from tests.support.counting_coordinator import CountingCoordinator
from tests.support.faulty_disk import FaultyDisk
from tests.support.spools import (
    delivering,
    recorded,
    recorded_and_seen,
    running,
    spool_in,
)
from tests.support.usage_records import usage_record
from tests.support.waiting import wait_until_async

_SEGMENT = 64 * 1024


def on_disk(folder: Path) -> list[int]:
    """Return the numbers of all records in the files of the one spool, in order."""
    (spool,) = [path for path in folder.iterdir() if "-" in path.name]
    seed, found = seed_of(spool.name.split("-")[1]), []
    for path in sorted(spool.glob("*.seg")):
        scanner = FrameScanner(path.read_bytes(), seed)
        while (item := scanner.next()) is not None:
            if isinstance(item, Frame) and item.numbered and item.seq not in found:
                found.append(item.seq)
    return found


async def fill(spool: UsageSpool) -> None:
    """Write records until one is refused."""
    while True:
        count = min(16, reserve_all(spool, 16))
        for _ in range(count):
            spool.release()
        if not count:
            spool.reserve()
        await recorded_and_seen(spool, count)


def reserve_all(spool: UsageSpool, most: int = 1_000_000) -> int:
    """Reserve up to ``most`` records; return how many could be."""
    for count in range(most):
        try:
            spool.reserve()
        except StorageFull:
            return count
    return most


async def test_a_record_is_on_disk_when_its_answer_may_end(tmp_path: Path):
    async with running(spool_in(tmp_path)) as spool:
        assert await recorded(spool) == 1
        assert on_disk(tmp_path) == [1]
        assert await recorded(spool) == 2
        assert on_disk(tmp_path) == [1, 2]


async def test_on_durable_is_never_called_before_record_returns(tmp_path: Path):
    async with running(spool_in(tmp_path)) as spool:
        told = []
        spool.reserve()
        number = spool.record(usage_record(), lambda: told.append("durable"))
        assert (number, told) == (1, [])
        await wait_until_async(lambda: told, 5, "the record on disk")


async def test_records_that_come_together_are_one_write(tmp_path: Path):
    disk = FaultyDisk()
    async with running(spool_in(tmp_path, disk, max_in_flight=300)) as spool:
        await recorded_and_seen(spool, 100)
        assert disk.calls.count("sync") <= 3
        assert spool.stats.records == 100


async def test_an_answer_that_fails_at_its_end_does_not_hold_up_others(tmp_path: Path, caplog):
    async with running(spool_in(tmp_path)) as spool:
        told = []
        for call in (lambda: 1 / 0, lambda: told.append(1)):
            spool.reserve()
            spool.record(usage_record(), call)
        await wait_until_async(lambda: told, 5, "the second answer")
    assert "the end of an answer failed record=1" in caplog.text


async def test_many_segments_are_filled(tmp_path: Path):
    async with running(spool_in(tmp_path)) as spool:
        for _ in range(60):
            await recorded_and_seen(spool, 16)
        assert on_disk(tmp_path) == list(range(1, 961))
        assert len(spool.writer.ends) >= 4


async def test_a_sync_that_fails_is_not_repeated_on_the_same_file(tmp_path: Path):
    """The bytes go to another file and are read back; the answer ends only then."""
    disk = FaultyDisk()
    async with running(spool_in(tmp_path, disk)) as spool:
        await recorded_and_seen(spool, 3)
        first = max(spool.writer.ends)
        disk.fail["sync"] = 1
        await recorded_and_seen(spool, 3)
        assert max(spool.writer.ends) == first + 1
        assert spool.stats.failovers == 1
        assert spool.writer.suspects == [f"{first:08d}.seg"]
        assert on_disk(tmp_path) == list(range(1, 7))
        coordinator = CountingCoordinator()
        async with delivering(spool, coordinator):
            await wait_until_async(lambda: len(coordinator.counted) == 6, 5, "all records")
        assert not coordinator.damaged


@pytest.mark.parametrize("call", ["write", "sync"])
async def test_a_disk_that_fails_for_a_while_delays_the_end_of_answers(tmp_path: Path, call: str):
    disk = FaultyDisk()
    async with running(spool_in(tmp_path, disk)) as spool:
        await recorded_and_seen(spool, 2)
        disk.fail[call] = 4
        await recorded_and_seen(spool, 2)
        assert spool.stats.failovers == 4
        assert on_disk(tmp_path) == [1, 2, 3, 4]
        await wait_until_async(lambda: not spool.stats.disk_failure, 5, "the disk is well again")


async def test_what_is_read_back_after_a_failure_has_to_be_what_was_written(tmp_path: Path):
    disk = FaultyDisk()
    async with running(spool_in(tmp_path, disk)) as spool:
        await recorded_and_seen(spool, 2)
        disk.fail["sync"], disk.forgets = 1, True
        spool.reserve()
        told = []
        spool.record(usage_record(), lambda: told.append(1))
        await wait_until_async(lambda: spool.stats.failovers >= 2, 5, "a read that differs")
        assert not told
        assert "read back" in spool.stats.disk_failure
        disk.forgets = False
        await wait_until_async(lambda: told, 5, "the record on disk")
    assert on_disk(tmp_path) == [1, 2, 3]


async def test_notes_written_without_a_sync_are_written_again_after_a_failure(tmp_path: Path):
    disk = FaultyDisk()
    async with running(spool_in(tmp_path, disk)) as spool:
        await recorded_and_seen(spool, 2, UsageCause.CLIENT_GONE)
        await wait_until_async(lambda: spool.settled_before() == 3, 5, "the notes in the file")
        disk.fail["sync"] = 1
        await recorded(spool)
        data = spool.own.segment(max(spool.writer.ends)).read_bytes()
        scanner, kinds = FrameScanner(data, spool.writer.seed), []
        while (item := scanner.next()) is not None:
            kinds.append(item.kind)
        assert kinds == [4, 2, 1]


async def test_a_full_quota_refuses_requests_visibly_and_resumes_by_itself(tmp_path: Path):
    spool = spool_in(tmp_path, quota_bytes=4 * _SEGMENT)
    coordinator = CountingCoordinator()
    async with running(spool):
        with pytest.raises(StorageFull) as refused:
            await fill(spool)
        assert refused.value.http_status == 503
        assert refused.value.code == "usage_storage_full"
        assert refused.value.retryable
        assert "usage.quota_bytes" in refused.value.hint
        assert spool.stats.refused >= 1
        assert "quota" in spool.stats.full
        assert spool.stats.missing() == [f"usage records have no space: {spool.stats.full}"]
        written = spool.last_seq
        assert written > 300
        async with delivering(spool, coordinator):
            await wait_until_async(lambda: not spool.stats.full, 5, "space again")
            await wait_until_async(lambda: len(coordinator.counted) == written, 5, "all of them")
            await recorded_and_seen(spool, 8)


async def test_a_full_disk_refuses_requests_and_resumes_by_itself(tmp_path: Path):
    disk = FaultyDisk()
    disk.room_bytes = 3 * _SEGMENT
    async with running(spool_in(tmp_path, disk)) as spool:
        with pytest.raises(StorageFull, match="No space left"):
            await fill(spool)
        disk.room_bytes = None
        await wait_until_async(lambda: not spool.stats.full, 5, "space again")
        await recorded_and_seen(spool, 8)
        assert on_disk(tmp_path) == list(range(1, spool.last_seq + 1))


async def test_a_limit_of_the_kernel_on_files_refuses_requests_and_is_lived_with(tmp_path: Path):
    """A real call of the system fails: no file may be larger than half a segment."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_SEGMENT // 2, hard))
    try:
        async with running(spool_in(tmp_path)) as spool:
            with pytest.raises(StorageFull, match="File too large"):
                spool.reserve()
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            await wait_until_async(lambda: not spool.stats.full, 5, "space again")
            await recorded_and_seen(spool, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert on_disk(tmp_path) == [1, 2]


async def test_a_reserved_record_never_meets_a_full_disk(tmp_path: Path):
    disk = FaultyDisk()
    disk.room_bytes = 3 * _SEGMENT
    async with running(spool_in(tmp_path, disk)) as spool:
        reserved = reserve_all(spool)
        assert reserved > 50
        waits = []
        for _ in range(reserved):
            durable = asyncio.get_running_loop().create_future()
            waits.append(durable)
            spool.record(usage_record(), lambda durable=durable: durable.set_result(None))
        await asyncio.wait_for(asyncio.gather(*waits), 10)
        assert on_disk(tmp_path) == list(range(1, reserved + 1))


async def test_a_released_reservation_is_free_again(tmp_path: Path):
    disk = FaultyDisk()
    disk.room_bytes = 2 * _SEGMENT
    async with running(spool_in(tmp_path, disk)) as spool:
        count = reserve_all(spool)
        spool.release()
        spool.reserve()
        with pytest.raises(StorageFull):
            spool.reserve()
        assert count == spool._free_bytes // RESERVED_BYTES


async def test_a_disk_that_is_full_at_the_start_delays_no_start(tmp_path: Path):
    disk = FaultyDisk()
    disk.code, disk.fail["rename"] = errno.ENOSPC, 1
    async with running(spool_in(tmp_path, disk)) as spool:
        with pytest.raises(StorageFull, match="No space left"):
            spool.reserve()
        await asyncio.wait_for(spool.opened.wait(), 5)
        await recorded_and_seen(spool, 1)
        assert not spool.stats.full


async def test_a_folder_that_cannot_be_written_is_a_mistake_of_the_configuration(tmp_path: Path):
    (tmp_path / "file").write_text("")
    spool = spool_in(tmp_path / "file" / "usage")
    with pytest.raises(ConfigInvalid, match=r"usage\.folder"):
        spool.start()


async def test_what_a_client_chose_cannot_make_a_record_too_large(tmp_path: Path):
    async with running(spool_in(tmp_path)) as spool:
        await recorded(spool, usage_record(service_tier="x" * 100_000))
        assert on_disk(tmp_path) == [1]


async def test_files_are_private_and_space_is_given_back_at_the_next_start(tmp_path: Path):
    async with running(spool_in(tmp_path)) as spool:
        await recorded_and_seen(spool, 3)
        folder, path = spool.own.path, spool.own.segment(1)
        assert path.stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_size == _SEGMENT
    async with running(spool_in(tmp_path)) as spool:
        assert spool.own.path != folder
        assert spool.own.order == 2
        assert path.stat().st_size < 8_192
        assert sorted(path.name for path in folder.iterdir()) == ["00000001.seg"]


async def test_a_thread_that_fails_admits_nothing_more(tmp_path: Path, monkeypatch, caplog):
    async with running(spool_in(tmp_path)) as spool:
        await recorded_and_seen(spool, 1)
        monkeypatch.setattr(spool.writer, "commit", lambda *_args, **_kwargs: 1 / 0)
        spool.reserve()
        spool.record(usage_record(), lambda: None)
        await wait_until_async(lambda: spool.stats.full, 5, "it is said")
        with pytest.raises(StorageFull, match="restart the agent"):
            spool.reserve()
    assert "the thread of the spool failed" in caplog.text
