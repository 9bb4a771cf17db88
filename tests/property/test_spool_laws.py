"""Laws of a damaged spool: what is whole is delivered once and in order, the rest is named."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.spool.folders import SpoolFolder
from protos.domain.spool import HEAD_BYTES, Damage, Frame, FrameScanner, Tail, seed_of
from tests.support.spool_files import read_spool, written_spool

RECORDS = 100


def bytes_of(spool: SpoolFolder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for _index, path in spool.segments()}


def frames_of(spool: SpoolFolder, data: bytes) -> list[tuple[int, int, Frame]]:
    """Return begin, end and frame of each frame in a segment."""
    scanner, found = FrameScanner(data, seed_of(spool.spool_id)), []
    while (item := scanner.next()) is not None:
        assert isinstance(item, Frame)
        found.append((scanner.offset - HEAD_BYTES - len(item.payload), scanner.offset, item))
    return found


def test_a_whole_spool_is_read_once_and_in_order(tmp_path: Path):
    spool = written_spool(tmp_path, RECORDS)
    assert len(spool.segments()) >= 3
    read = read_spool(spool)
    assert read.numbers == list(range(1, RECORDS + 1))
    assert not read.lost_ends
    assert not read.damaged
    assert not read.quarantined


def test_a_flipped_bit_at_any_byte_costs_one_record_at_most_which_is_named(tmp_path: Path):
    spool = written_spool(tmp_path, 7)
    whole = bytes_of(spool)
    for path, data in whole.items():
        frames = frames_of(spool, data)
        for begin, end, frame in frames:
            for at in range(begin, end):
                bad = bytearray(data)
                bad[at] ^= 1 << at % 8
                path.write_bytes(bad)
                read = read_spool(spool)
                missing = [frame.seq] if frame.numbered else []
                there = [seq for seq in range(1, 8) if seq not in missing]
                assert read.numbers == there, (frame, at - begin)
                assert read.damaged == missing, (frame, at - begin)
                ((_index, item, numbers),) = read.quarantined
                # A longer length of the last frame cannot be told from a write that was cut off.
                of_length = end == frames[-1][1] and 4 <= at - begin < 8
                assert isinstance(item, Damage) or of_length
                assert item.data == bytes(bad[begin:end])
                assert numbers == missing
                if frame.numbered:
                    assert not read.lost_ends
        path.write_bytes(data)


def test_a_tail_cut_off_at_any_byte_loses_only_what_was_not_written_whole(tmp_path: Path):
    spool = written_spool(tmp_path, 4)
    ((path, data),) = bytes_of(spool).items()
    frames = frames_of(spool, data)
    for cut in range(frames[0][1], frames[-1][1]):
        path.write_bytes(data[:cut] + bytes(len(data) - cut))
        read = read_spool(spool)
        whole = [frame.seq for _begin, end, frame in frames if frame.numbered and end <= cut]
        assert read.numbers == whole, cut
        assert not read.damaged, cut
        assert all(isinstance(item, Tail) for _index, item, _numbers in read.quarantined), cut
        path.write_bytes(data[:cut])
        assert read_spool(spool).numbers == whole, cut


def test_a_segment_that_is_gone_is_named_by_its_neighbours(tmp_path: Path):
    spool = written_spool(tmp_path, RECORDS)
    segments = spool.segments()
    gone = {
        frame.seq for *_, frame in frames_of(spool, segments[1][1].read_bytes()) if frame.numbered
    }
    segments[1][1].unlink()
    read = read_spool(spool)
    assert set(read.damaged) == gone
    assert set(read.numbers) == set(range(1, RECORDS + 1)) - gone


def test_a_spool_whose_first_segments_were_delivered_begins_behind_them(tmp_path: Path):
    spool = written_spool(tmp_path, RECORDS)
    segments = spool.segments()
    first = next(
        frame.seq for *_, frame in frames_of(spool, segments[1][1].read_bytes()) if frame.numbered
    )
    segments[0][1].unlink()
    read = read_spool(spool)
    assert read.numbers == list(range(first, RECORDS + 1))
    assert not read.damaged


@settings(max_examples=60, deadline=None)
@given(
    hits=st.lists(
        st.tuples(st.floats(0, 1), st.integers(1, 600), st.sampled_from(["zero", "noise", "copy"])),
        min_size=1,
        max_size=5,
    )
)
def test_any_damage_leaves_what_it_did_not_touch(hits: list[tuple[float, int, str]]):
    with tempfile.TemporaryDirectory() as folder:
        spool = written_spool(Path(folder), RECORDS)
        untouched: set[int] = set()
        for path, data in bytes_of(spool).items():
            bad, frames = bytearray(data), frames_of(spool, data)
            end = frames[-1][1] if frames else 0
            for share, length, kind in hits:
                begin = int(share * end)
                stop = min(begin + length, end)
                noise = bytes((at * 37 + 11) % 256 for at in range(stop - begin))
                copied = bytes(data[: stop - begin])
                put = {"zero": bytes(stop - begin), "noise": noise, "copy": copied}
                bad[begin:stop] = put[kind]
            untouched |= {
                frame.seq
                for begin, stop, frame in frames
                if frame.numbered and bad[begin:stop] == data[begin:stop]
            }
            path.write_bytes(bad)
        read = read_spool(spool)
        assert set(read.numbers) >= untouched
        assert not set(read.numbers) & set(read.damaged)
        assert set(read.numbers) | set(read.damaged) == set(
            range(1, max(read.numbers + read.damaged, default=0) + 1)
        )
