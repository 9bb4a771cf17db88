"""The format of the spool of usage records: frames, and how they are found again after damage.

A frame is ``marker | length | crc32c | seq | kind | payload``; the checksum covers all but the
marker and itself, and starts from the spool's id: bytes that a customer chose, inside a payload,
cannot pass as a frame. Records and counters have the numbers 1, 2, 3, ... of their spool. A note
says how the answers of earlier records ended, and has the number of the last record before it.
Space that was allocated and not written is zeros. docs/decisions/0055-spool.md
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from google_crc32c import extend

from protos.domain.usage_record import UsageCause

#: Begins every frame; no part of UTF-8 text.
MARKER = b"\xf5EF\xfa"
_HEAD = struct.Struct("<4sIIQB")
_CHECKED = struct.Struct("<IQB")
HEAD_BYTES = _HEAD.size
#: Longest payload; the coordinator takes records of 4,096 bytes.
MAX_PAYLOAD_BYTES = 4_000
MAX_FRAME_BYTES = HEAD_BYTES + MAX_PAYLOAD_BYTES

#: Kinds of frames. The first frame of a segment has the number of the first record that is not in
#: an earlier segment.
RECORD, NOTE, COUNTER, SEGMENT = 1, 2, 3, 4
#: Added to RECORD: its cause is final, so that no note is needed.
FINAL = 0x10
#: Added to RECORD: it is bound to zones.
ZONED = 0x20
_KIND = 0x0F
_KINDS = frozenset(
    (RECORD, RECORD | FINAL, RECORD | ZONED, RECORD | FINAL | ZONED, NOTE, COUNTER, SEGMENT)
)

#: Numbers of the causes in notes, as in ``protos.v1.usage_pb2``. Never reused.
CAUSE_CODES = {
    UsageCause.COMPLETE: 1,
    UsageCause.CLIENT_GONE: 2,
    UsageCause.ENGINE_LOST: 3,
    UsageCause.REVOKED: 4,
    UsageCause.CUT_SHORT: 5,
    UsageCause.AGENT_LOST: 6,
    UsageCause.EMPTY: 7,
    UsageCause.FAILED: 8,
}
COMPLETE_CODE = CAUSE_CODES[UsageCause.COMPLETE]
AGENT_LOST_CODE = CAUSE_CODES[UsageCause.AGENT_LOST]
#: Tag of UsageRecord.cause in the wire format: field 12, a varint.
_CAUSE_TAG = 12 << 3
#: Most runs in one note, so that it fits its payload.
MAX_NOTE_RUNS = 512


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame, whose checksum was right."""

    kind: int
    seq: int
    payload: bytes

    @property
    def numbered(self) -> bool:
        """Whether it has a number of its own: a record or a counter."""
        return self.kind & _KIND == RECORD or self.kind == COUNTER

    @property
    def is_record(self) -> bool:
        return self.kind & _KIND == RECORD

    @property
    def final(self) -> bool:
        """Whether it may be shipped without a note."""
        return self.kind == COUNTER or bool(self.kind & FINAL)

    @property
    def zoned(self) -> bool:
        return self.is_record and bool(self.kind & ZONED)


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are no frame, from ``offset`` on; neither are they unwritten space."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Tail:
    """Bytes at the end that are the beginning of a frame: its writing was cut off."""

    offset: int
    data: bytes


Item = Frame | Damage | Tail


def seed_of(spool_id: str) -> int:
    """Return the number from which the checksums of a spool's frames start."""
    return int(extend(0, bytes.fromhex(spool_id)))


def encode_frame(seed: int, kind: int, seq: int, payload: bytes) -> bytes:
    """Return one frame. Raises: ValueError for a payload over the limit. Hot."""
    length = len(payload)
    if length > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a payload of {length} bytes is over {MAX_PAYLOAD_BYTES}")
    crc = extend(extend(seed, _CHECKED.pack(length, seq, kind)), payload)
    return _HEAD.pack(MARKER, length, crc, seq, kind) + payload


def read_frame(data: bytes, offset: int, seed: int) -> Frame | None:
    """Return the frame at ``offset``, or None if there is no whole one. Hot."""
    begin = offset + HEAD_BYTES
    if begin > len(data):
        return None
    marker, length, crc, seq, kind = _HEAD.unpack_from(data, offset)
    if marker != MARKER or length > MAX_PAYLOAD_BYTES or kind not in _KINDS:
        return None
    payload = data[begin : begin + length]
    if len(payload) < length:
        return None
    if extend(extend(seed, _CHECKED.pack(length, seq, kind)), payload) != crc:
        return None
    return Frame(kind, seq, payload)


class FrameScanner:
    """Reads the frames of one segment's bytes in order; goes on behind damage."""

    def __init__(self, data: bytes, seed: int) -> None:
        self._data = data
        self._seed = seed
        self.offset = 0

    def next(self) -> Item | None:
        """Return the next frame or piece of damage; None at the end. Hot."""
        frame = read_frame(self._data, self.offset, self._seed)
        if frame is None:
            return self._resynchronise()
        self.offset += HEAD_BYTES + len(frame.payload)
        return frame

    def _resynchronise(self) -> Item | None:
        """Return what lies before the next whole frame, if it is more than unwritten space."""
        data, begin = self._data, self.offset
        if begin >= len(data):
            return None
        at = data.find(MARKER, begin + 1)
        while at >= 0 and read_frame(data, at, self._seed) is None:
            at = data.find(MARKER, at + 1)
        last = at < 0
        self.offset = len(data) if last else at
        between = data[begin : self.offset]
        kept = between.rstrip(b"\0") if last else between
        if not kept.strip(b"\0"):
            return self.next() if not last else None
        if last and _is_cut_off(between, len(kept)):
            return Tail(begin, kept)
        return Damage(begin, kept)


def _is_cut_off(rest: bytes, written: int) -> bool:
    """Whether ``rest`` begins like a frame of which only ``written`` bytes were written."""
    if written < HEAD_BYTES:
        return MARKER.startswith(rest[: min(written, len(MARKER))])
    marker, length, _crc, _seq, kind = _HEAD.unpack_from(rest, 0)
    if marker != MARKER or length > MAX_PAYLOAD_BYTES or kind not in _KINDS:
        return False
    return bool(written < HEAD_BYTES + length)


def is_numbered_head(data: bytes) -> bool:
    """Whether damaged ``data`` begins like a record or a counter, as far as can be told."""
    return len(data) < HEAD_BYTES or data[HEAD_BYTES - 1] & _KIND in (RECORD, COUNTER)


def encode_notes(said: list[tuple[int, int]]) -> list[bytes]:
    """Return the payloads of notes that say the (seq, cause code) pairs, as runs.

    A run is ``distance from the end of the run before | length`` as varints, then a cause code.
    """
    said.sort()
    payloads: list[bytes] = []
    out, runs, end, at = bytearray(), 0, 0, 0
    while at < len(said):
        first, code = said[at]
        count = 1
        while at + count < len(said) and said[at + count] == (first + count, code):
            count += 1
        if runs == MAX_NOTE_RUNS:
            payloads.append(bytes(out))
            out, runs, end = bytearray(), 0, 0
        _put_varint(out, first - end)
        _put_varint(out, count)
        out.append(code)
        end, runs, at = first + count, runs + 1, at + count
    if out:
        payloads.append(bytes(out))
    return payloads


def decode_note(payload: bytes) -> list[tuple[int, int, int]]:
    """Return the runs of a note: (first seq, count, cause code). Raises: ValueError."""
    runs: list[tuple[int, int, int]] = []
    at, end = 0, 0
    while at < len(payload):
        distance, at = _varint(payload, at)
        count, at = _varint(payload, at)
        if at >= len(payload):
            raise ValueError("a note ends in the middle of a run")
        runs.append((end + distance, count, payload[at]))
        end += distance + count
        at += 1
    return runs


def with_cause(record: bytes, code: int) -> bytes:
    """Return the serialised record with another cause: the last of a field counts."""
    return record + bytes((_CAUSE_TAG, code))


def _put_varint(out: bytearray, value: int) -> None:
    if value < 0:
        raise ValueError("two causes for one record")
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a note ends in the middle of a number")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
