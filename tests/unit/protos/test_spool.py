"""Frames of the spool, and how they are found again after damage."""

from __future__ import annotations

import pytest

from protos.domain.spool import (
    CAUSE_CODES,
    COUNTER,
    FINAL,
    HEAD_BYTES,
    MARKER,
    MAX_NOTE_RUNS,
    MAX_PAYLOAD_BYTES,
    NOTE,
    RECORD,
    SEGMENT,
    ZONED,
    Damage,
    Frame,
    FrameScanner,
    Tail,
    decode_note,
    encode_frame,
    encode_notes,
    is_numbered_head,
    read_frame,
    seed_of,
    with_cause,
)
from protos.domain.usage_record import UsageCause
from protos.wire.usage import CAUSE_TO_WIRE, decode_record, encode_record
from tests.support.usage_records import usage_record

SEED = seed_of("00112233445566778899aabbccddeeff")


def scanned(data: bytes) -> list[object]:
    scanner = FrameScanner(data, SEED)
    found = []
    while (item := scanner.next()) is not None:
        found.append(item)
    return found


def frames(*payloads: bytes) -> list[bytes]:
    return [encode_frame(SEED, RECORD, seq, payload) for seq, payload in enumerate(payloads, 1)]


def test_frames_come_back_in_order():
    data = b"".join(frames(b"one", b"", b"three"))
    assert scanned(data) == [
        Frame(RECORD, 1, b"one"),
        Frame(RECORD, 2, b""),
        Frame(RECORD, 3, b"three"),
    ]


def test_unwritten_space_ends_a_segment():
    assert scanned(frames(b"one")[0] + bytes(5_000)) == [Frame(RECORD, 1, b"one")]
    assert scanned(bytes(5_000)) == []
    assert scanned(b"") == []


def test_a_hole_of_unwritten_space_is_stepped_over():
    one, two = frames(b"one", b"two")
    assert scanned(one + bytes(4_096) + two) == [Frame(RECORD, 1, b"one"), Frame(RECORD, 2, b"two")]


def test_a_frame_of_another_spool_is_none():
    other = encode_frame(seed_of("ff" * 16), RECORD, 1, b"payload")
    assert read_frame(other, 0, SEED) is None


def test_a_payload_that_looks_like_a_frame_is_not_read_after_damage():
    """A customer's text cannot become a record: the checksum starts from the spool's id."""
    forged = encode_frame(0, RECORD, 2, b"a free request")
    data = bytearray(encode_frame(SEED, RECORD, 1, b"x" * 40 + forged + b"y" * 40))
    data[5] ^= 1
    assert not [item for item in scanned(bytes(data)) if isinstance(item, Frame)]


def test_a_payload_over_the_limit_is_refused():
    encode_frame(SEED, RECORD, 1, bytes(MAX_PAYLOAD_BYTES))
    with pytest.raises(ValueError, match="over"):
        encode_frame(SEED, RECORD, 1, bytes(MAX_PAYLOAD_BYTES + 1))


def test_a_tail_cut_off_at_each_byte_is_a_tail_and_no_damage():
    one, two = frames(b"one", b"the second record")
    for length in range(1, len(two)):
        found = scanned(one + two[:length] + bytes(4_096))
        assert found[0] == Frame(RECORD, 1, b"one"), length
        assert all(isinstance(item, Tail) for item in found[1:]), length
        assert len(found) <= 2, length


def test_a_flipped_bit_in_the_middle_is_damage_and_later_frames_are_read():
    one, two, three = frames(b"one", b"the second record", b"three")
    for at in range(len(two) * 8):
        bad = bytearray(two)
        bad[at // 8] ^= 1 << at % 8
        found = scanned(one + bytes(bad) + three + bytes(100))
        assert found == [
            Frame(RECORD, 1, b"one"),
            Damage(len(one), bytes(bad)),
            Frame(RECORD, 3, b"three"),
        ], at


def test_damage_at_the_end_is_told_from_a_cut_off_write():
    one, two = frames(b"one", b"the second record")
    bad = bytearray(two)
    bad[-1] ^= 1
    damage = scanned(one + bytes(bad) + bytes(100))[1]
    assert damage == Damage(len(one), bytes(bad))
    assert is_numbered_head(damage.data)
    assert not is_numbered_head(encode_frame(SEED, NOTE, 2, b"\x01\x01\x01"))


@pytest.mark.parametrize(
    ("kind", "numbered", "record", "final", "zoned"),
    [
        (RECORD, True, True, False, False),
        (RECORD | FINAL, True, True, True, False),
        (RECORD | FINAL | ZONED, True, True, True, True),
        (COUNTER, True, False, True, False),
        (NOTE, False, False, False, False),
        (SEGMENT, False, False, False, False),
    ],
)
def test_kinds(kind: int, numbered: bool, record: bool, final: bool, zoned: bool):
    frame = Frame(kind, 1, b"")
    assert (frame.numbered, frame.is_record, frame.final, frame.zoned) == (
        numbered,
        record,
        final,
        zoned,
    )


def test_notes_say_runs():
    said = [(3, 1), (1, 1), (2, 1), (7, 2), (8, 1), (300, 1)]
    (payload,) = encode_notes(said)
    assert decode_note(payload) == [(1, 3, 1), (7, 1, 2), (8, 1, 1), (300, 1, 1)]


def test_many_runs_are_several_notes_that_each_stand_alone():
    said = [(seq, 1 + seq % 2) for seq in range(1, 3 * MAX_NOTE_RUNS)]
    notes = encode_notes(list(said))
    assert len(notes) == 3
    assert all(len(note) <= MAX_PAYLOAD_BYTES for note in notes)
    runs = [run for note in notes for run in decode_note(note)]
    assert [(first, code) for first, count, code in runs] == said


@pytest.mark.parametrize("payload", [b"\x01", b"\x01\x01", b"\x80", b"\xff" * 12])
def test_a_note_that_ends_too_early_is_refused(payload: bytes):
    with pytest.raises(ValueError, match="a note ends"):
        decode_note(payload)


def test_two_causes_for_one_record_are_refused():
    with pytest.raises(ValueError, match="two causes"):
        encode_notes([(1, 1), (1, 2)])


def test_the_codes_of_notes_are_those_of_the_wire():
    assert CAUSE_CODES == CAUSE_TO_WIRE


def test_another_cause_is_appended_to_the_bytes_of_a_record():
    payload = with_cause(encode_record(usage_record()), CAUSE_CODES[UsageCause.AGENT_LOST])
    assert decode_record(payload) == usage_record(cause=UsageCause.AGENT_LOST)


def test_the_marker_is_no_text():
    assert len(MARKER) == 4
    assert HEAD_BYTES == 21
    with pytest.raises(UnicodeDecodeError):
        MARKER.decode()
