"""Reads one spool's segments in order, for delivery; memory is bounded by one segment.

Two places in the files: that of records, and that of notes, which goes ahead of it only when the
end of a record is not known yet. Blocking: for a thread.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.core.usage_outcomes import Outcomes
from protos.domain.spool import (
    AGENT_LOST_CODE,
    COMPLETE_CODE,
    COUNTER,
    NOTE,
    SEGMENT,
    Damage,
    Frame,
    FrameScanner,
    Tail,
    decode_note,
    is_numbered_head,
    read_frame,
    seed_of,
    with_cause,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.spool.folders import SpoolFolder

_log = logging.getLogger(__name__)

_HEAD_BYTES = 64


@dataclass(slots=True)
class Taken:
    """What was read, in order. ``entries`` are number, whether a counter, whether zoned, bytes."""

    first_seq: int
    last_seq: int
    entries: list[tuple[int, bool, bool, bytes]] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    damaged_bytes: int = 0
    lost_ends: int = 0
    #: The limit was reached: there may be more.
    more: bool = False


class _Place:
    """A place in the files of a spool."""

    def __init__(self, folder: SpoolFolder, seed: int, ends: Mapping[int, int] | None) -> None:
        self._folder = folder
        self._seed = seed
        self._ends = ends
        self.index = 0
        self.offset = 0
        self.next_first: int | None = None
        self._scanner: FrameScanner | None = None
        self._begin = 0

    def next(self) -> Frame | Damage | Tail | None:
        """Return what comes next in this segment; None at the end of what can be read now."""
        if self._scanner is None and not self._load():
            return None
        assert self._scanner is not None
        item = self._scanner.next()
        self.offset = self._begin + self._scanner.offset
        if item is None:
            self._scanner = None
        return item

    def next_segment(self) -> bool:
        """Go to the next segment, or read on in this one if it has grown; False: neither."""
        later = [index for index in self._indices() if index > self.index]
        if not later:
            return False
        if self._load():
            return True  # what was added to this one before the next was begun
        self.index, self.offset = min(later), 0
        self.next_first = self._first_of_segment_after()
        return True

    def _indices(self) -> list[int]:
        if self._ends is not None:
            return list(self._ends)
        return [index for index, _path in self._folder.segments()]

    def _load(self) -> bool:
        """Read what was added to the segment since; False when nothing was."""
        if not self.index:
            return False
        limit = None if self._ends is None else self._ends.get(self.index, 0)
        if limit is not None and limit <= self.offset:
            return False
        try:
            with self._folder.segment(self.index).open("rb") as file:
                file.seek(self.offset)
                data = file.read() if limit is None else file.read(limit - self.offset)
        except FileNotFoundError:
            return False
        if not data:
            return False
        self._scanner, self._begin = FrameScanner(data, self._seed), self.offset
        return True

    def _first_of_segment_after(self) -> int | None:
        later = sorted(index for index in self._indices() if index > self.index)
        for index in later:
            try:
                with self._folder.segment(index).open("rb") as file:
                    head = read_frame(file.read(_HEAD_BYTES), 0, self._seed)
            except FileNotFoundError:
                continue
            return head.seq if head is not None and head.kind == SEGMENT else None
        return None


class SpoolReader:
    """Hands out one spool's records with their causes, each number once and in order."""

    def __init__(
        self,
        folder: SpoolFolder,
        *,
        ends: Mapping[int, int] | None = None,
        quarantine: Callable[[SpoolFolder, int, Damage | Tail, list[int]], None],
        next_seq: int | None = None,
    ) -> None:
        """``ends``: the readable bytes of each segment of the spool that is being written."""
        self.folder = folder
        self._ends = ends
        self._quarantine = quarantine
        self._seed = seed_of(folder.spool_id)
        self._records = _Place(folder, self._seed, ends)
        self._notes = _Place(folder, self._seed, ends)
        self.next_seq = next_seq or 0
        self._outcomes = Outcomes(next_seq or 1)
        self._held: Frame | None = None
        #: Numbers before it that were not found are missing.
        self._known_until = 0
        self._bad: list[tuple[int, Damage | Tail]] = []
        #: Segments that were read to their end, with the last number of each.
        self.read_through: list[tuple[int, int]] = []

    def take(self, max_records: int, max_bytes: int, settled_before: int = 0) -> Taken | None:
        """Return what can be delivered now, or None.

        ``settled_before``: the ends of earlier records are in the files, of the spool being
        written; what is not found there was lost.
        """
        taken = Taken(0, 0)
        size = count = 0
        while not taken.more:
            frame = self._held or self._next_numbered(taken)
            self._held = frame
            if not taken.first_seq:
                taken.first_seq = self.next_seq
            if self.next_seq < self._known_until:
                taken.damaged.append(self.next_seq)
                self.next_seq += 1
            elif frame is None:
                break
            else:
                payload = self._with_end(frame, settled_before, taken)
                if payload is None:
                    break
                self._held = None
                taken.entries.append((frame.seq, frame.kind == COUNTER, frame.zoned, payload))
                self.next_seq = frame.seq + 1
                size += len(payload)
            count += 1
            taken.more = count >= max_records or size >= max_bytes
        taken.last_seq = self.next_seq - 1
        self._outcomes.forget_before(self.next_seq)
        return taken if count else None

    # -- records ---------------------------------------------------------------------------------

    def _next_numbered(self, taken: Taken) -> Frame | None:
        """Return the next frame that is to be delivered; note damage on the way."""
        while True:
            item = self._records.next()
            if item is None:
                if not self._next_segment():
                    self._end_of_files()
                    return None
            elif not isinstance(item, Frame):
                self._bad.append((self._records.index, item))
                taken.damaged_bytes += len(item.data)
            elif self._is_wanted(item):
                return item

    def _is_wanted(self, frame: Frame) -> bool:
        """Whether ``frame`` is to be delivered; learn from it which numbers came before."""
        until = frame.seq + 1 if frame.kind == NOTE else frame.seq
        if not self.next_seq:
            first_is_one = self._records.index == 1
            self._begin_at(1 if first_is_one else until)
        limit = self._records.next_first
        if limit is not None:
            until = min(until, limit)
        self._known_until = max(self._known_until, until)
        self._set_aside()
        if not frame.numbered or frame.seq < self.next_seq:
            return False
        # Of a segment that was given up, the rest is in the next one.
        return limit is None or frame.seq < limit

    def _begin_at(self, seq: int) -> None:
        self.next_seq = seq
        self._outcomes.forget_before(seq)

    def _next_segment(self) -> bool:
        place = self._records
        index, first = place.index, place.next_first
        if not place.next_segment():
            return False
        if place.index != index and index:
            last = max(self.next_seq, self._known_until) - 1 if first is None else first - 1
            self.read_through.append((index, last))
        return True

    def _end_of_files(self) -> None:
        """Damage at the end of a spool that is not being written: was it a record?"""
        if self._ends is not None or not self._bad:
            return
        last = self._bad[-1][1]
        if isinstance(last, Damage) and is_numbered_head(last.data):
            self._known_until = max(self._known_until, max(self.next_seq, 1) + 1)
            if not self.next_seq:
                self._begin_at(1)
        self._set_aside()

    def _set_aside(self) -> None:
        """Put damaged bytes into quarantine, with the numbers that are missing."""
        if self._bad:
            numbers = list(range(self.next_seq, self._known_until))
            for index, item in self._bad:
                self._quarantine(self.folder, index, item, numbers)
            self._bad.clear()

    # -- how they ended --------------------------------------------------------------------------

    def _with_end(self, frame: Frame, settled_before: int, taken: Taken) -> bytes | None:
        """Return the record with its cause; None: it is not known yet."""
        if frame.final:
            return frame.payload
        code = self._outcomes.code(frame.seq)
        while not code and self._advance_notes():
            code = self._outcomes.code(frame.seq)
        if not code:
            if self._ends is not None and frame.seq >= settled_before:
                return None
            taken.lost_ends += 1
            code = AGENT_LOST_CODE
        return frame.payload if code == COMPLETE_CODE else with_cause(frame.payload, code)

    def _advance_notes(self) -> bool:
        """Read the notes of what can be read of one segment; False when all were read."""
        place = self._notes
        read = False
        while (item := place.next()) is not None:
            read = True
            if isinstance(item, Frame) and item.kind == NOTE:
                self._note(item.payload)
        return place.next_segment() or read

    def _note(self, payload: bytes) -> None:
        try:
            for first, count, code in decode_note(payload):
                self._outcomes.note(first, count, code)
        except ValueError as error:
            _log.error("a note of a spool is wrong spool=%s: %s", self.folder.spool_id, error)
