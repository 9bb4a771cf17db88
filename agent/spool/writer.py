"""Writes the frames of one spool into segments, each group with one write and one sync.

Not thread-safe: one thread writes. A segment whose write or sync failed is never written again:
after a failed sync the kernel may call its pages clean without having stored them, so that a
second sync would report success. The same frames go into a new file, and are read back.
Source: Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.spool import HEAD_BYTES, MAX_FRAME_BYTES, SEGMENT, encode_frame, seed_of

if TYPE_CHECKING:
    from pathlib import Path

    from agent.spool.disk import Disk
    from agent.spool.space import Space

_log = logging.getLogger(__name__)

SUFFIX = ".seg"
#: Never filled: the head of a segment, and a last frame that does not fit any more.
_UNUSABLE_BYTES = HEAD_BYTES + MAX_FRAME_BYTES

#: A frame and its number; 0 for a note.
Numbered = tuple[int, bytes]


class NoSpace(Exception):
    """No segment can be allocated now."""


@dataclass(slots=True)
class _Segment:
    index: int
    path: Path
    fd: int
    end: int = 0
    #: Something in it is on disk and has been confirmed.
    holds: bool = False


class SpoolWriter:
    """The segments of the spool that this run of the agent writes."""

    def __init__(
        self,
        folder: Path,
        spool_id: str,
        *,
        segment_bytes: int,
        headroom_bytes: int,
        space: Space,
        disk: Disk,
    ) -> None:
        self.folder = folder
        self.seed = seed_of(spool_id)
        self._segment_bytes = segment_bytes
        self._headroom_bytes = headroom_bytes
        self._space = space
        self._disk = disk
        self._active: _Segment | None = None
        self._spares: deque[_Segment] = deque()
        self._next_index = 1
        self._written_seq = 0
        self._verifies = False
        #: Written to the active segment since its last sync: to be written again if the next fails.
        self._unsynced: list[Numbered] = []
        #: Readable bytes of each segment; a reader on another thread looks at them.
        self.ends: dict[int, int] = {}
        self.free_bytes = 0
        #: Why no further space could be allocated; empty when it could.
        self.full = ""
        self.failure = ""
        self.failovers = 0
        self.suspects: list[str] = []

    # -- space -----------------------------------------------------------------------------------

    def prepare(self) -> bool:
        """Allocate segments until the headroom is free; return whether it is."""
        while self.free_bytes < self._headroom_bytes:
            try:
                self._allocate()
            except NoSpace as reason:
                self._note_full(str(reason))
                return False
        self._note_full("")
        return True

    def _note_full(self, reason: str) -> None:
        if reason and not self.full:
            _log.warning("no space for further records of usage folder=%s: %s", self.folder, reason)
        elif self.full and not reason:
            _log.info("there is space for records of usage again folder=%s", self.folder)
        self.full = reason

    def _allocate(self) -> None:
        if not self._space.allows(self._segment_bytes):
            raise NoSpace(f"the quota of {self._space.quota_bytes} bytes is used")
        path = self.folder / f"{self._next_index:08d}{SUFFIX}"
        try:
            fd = self._disk.create(path, self._segment_bytes)
        except FileExistsError:
            self._next_index += 1  # an earlier try could not remove it
            raise NoSpace(f"{path} exists already") from None
        except OSError as error:
            raise NoSpace(str(error)) from error
        self._spares.append(_Segment(self._next_index, path, fd))
        self._next_index += 1
        self._count_free()

    def _count_free(self) -> None:
        usable = self._segment_bytes - _UNUSABLE_BYTES
        free = len(self._spares) * usable
        if self._active is not None:
            free += max(0, usable - self._active.end)
        self.free_bytes = free

    # -- writing ---------------------------------------------------------------------------------

    def commit(self, frames: deque[Numbered], *, sync: bool) -> None:
        """Write ``frames`` in order, and wait until they are on disk if ``sync``.

        What has been stored is taken out of ``frames``.
        Raises: NoSpace when a new file is needed and cannot be had; call again later.
        """
        while frames:
            segment = self._active or self._activate()
            count = self._fitting(segment, frames)
            chunk = [frames[at] for at in range(count)]
            try:
                if not count:
                    self._retire(segment)
                    continue
                self._store(segment, chunk, sync=sync or self._verifies)
            except OSError as error:
                frames.extendleft(reversed(self._unsynced))
                self._unsynced.clear()
                self._fail_over(segment, error)
                continue
            self._stored(segment, chunk)
            for _ in chunk:
                frames.popleft()
        self._count_free()

    def _activate(self) -> _Segment:
        if not self._spares:
            self._allocate()
        self._active = self._spares.popleft()
        return self._active

    def _fitting(self, segment: _Segment, frames: deque[Numbered]) -> int:
        room = self._segment_bytes - segment.end - (0 if segment.end else HEAD_BYTES)
        count = 0
        for _seq, frame in frames:
            room -= len(frame)
            if room < 0:
                break
            count += 1
        return count

    def _store(self, segment: _Segment, chunk: list[Numbered], *, sync: bool) -> None:
        data = b"".join([frame for _seq, frame in chunk])
        if not segment.end:
            first = next((seq for seq, _frame in chunk if seq), self._written_seq + 1)
            data = encode_frame(self.seed, SEGMENT, first, b"") + data
        if sync and not self._unsynced:
            self._disk.write_through(segment.fd, data, segment.end)
        else:
            self._disk.write(segment.fd, data, segment.end)
            if sync:
                self._disk.sync(segment.fd)
                self._unsynced.clear()
            else:
                self._unsynced += chunk
        if self._verifies and self._disk.read_back(segment.fd, len(data), segment.end) != data:
            raise OSError("what was read back is not what was written")
        segment.end += len(data)

    def _stored(self, segment: _Segment, chunk: list[Numbered]) -> None:
        segment.holds = True
        self._verifies = False
        self.ends[segment.index] = segment.end
        self._written_seq = max(self._written_seq, max(seq for seq, _frame in chunk))
        if self.failure:
            _log.info("records of usage are stored again segment=%s", segment.path)
            self.failure = ""

    def _retire(self, segment: _Segment) -> None:
        """Leave a full segment to the reader."""
        if self._unsynced:
            self._disk.sync(segment.fd)
            self._unsynced.clear()
        self._disk.close(segment.fd)
        self._active = None

    def _fail_over(self, segment: _Segment, error: OSError) -> None:
        """Give up a segment; what it holds up to its end was confirmed, and stays."""
        _log.error("a segment of the spool is given up segment=%s: %s", segment.path, error)
        self.failure = str(error)
        self.failovers += 1
        self._verifies = True
        self._disk.close(segment.fd)
        self._active = None
        self._count_free()
        if segment.holds:
            self.suspects.append(segment.path.name)
            return
        try:
            self._disk.remove(segment.path)
        except OSError:
            self.suspects.append(segment.path.name)
        raise NoSpace(str(error))  # the caller waits a little: this disk takes nothing now

    def close(self) -> None:
        """Close the files; allocated ones that hold nothing are removed."""
        for segment in [*self._spares, *([self._active] if self._active is not None else ())]:
            self._disk.close(segment.fd)
            if not segment.holds:
                self._disk.remove(segment.path)
        self._spares.clear()
        self._active = None
