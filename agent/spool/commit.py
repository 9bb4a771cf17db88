"""The thread that writes: everything that waits is one group, with one write and one sync."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.spool.writer import NoSpace
from protos.domain.spool import NOTE, encode_frame, encode_notes

if TYPE_CHECKING:
    import asyncio

    from agent.spool.writer import SpoolWriter

_log = logging.getLogger(__name__)

#: Pause before space is looked for again, or a failing disk is tried again.
PROBE_S = 0.5

#: A number, its frame, and who waits for its being on disk.
Waiting = tuple[int, bytes, "Callable[[], None] | None"]


class GroupCommit:
    """Takes frames on the event loop, and calls back there once they are on disk.

    What comes during a sync is the next group.
    """

    def __init__(
        self,
        open_writer: Callable[[], SpoolWriter],
        *,
        now_mono_ms: Callable[[], float],
        on_committed: Callable[[list[Waiting], float], None],
        on_state: Callable[[SpoolWriter, int], None],
        on_broken: Callable[[str], None],
    ) -> None:
        """``on_committed`` gets a group and how long its writing took, in milliseconds;
        ``on_state`` the free bytes, always before the groups that have used them.

        ``open_writer`` is called until it raises no OSError.
        """
        self._open_writer = open_writer
        self._now_mono_ms = now_mono_ms
        self._on_committed = on_committed
        self._on_state = on_state
        self._on_broken = on_broken
        self._waiting: deque[Waiting] = deque()
        self._said: deque[tuple[int, int]] = deque()
        #: Ends that were said, and those of them that are in the files.
        self.said_count = self.noted_count = 0
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._awake = False
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: SpoolWriter | None = None
        self._thread = threading.Thread(target=self._run, name="usage-spool", daemon=True)
        #: What was taken and is not stored: frames, and the records among them.
        self._left: deque[tuple[int, bytes]] = deque()
        self._group: list[Waiting] = []
        self._noting = self._last_seq = 0

    def start(self, loop: asyncio.AbstractEventLoop, writer: SpoolWriter | None) -> None:
        """Start the thread; it opens the writer if there is none yet."""
        self._loop, self._writer = loop, writer
        self._thread.start()

    def write(self, number: int, frame: bytes, on_durable: Callable[[], None] | None) -> None:
        """Write a frame with the next group. Hot."""
        self._waiting.append((number, frame, on_durable))
        if not self._awake:
            self._awake = True
            self._wake.put(None)

    def say(self, number: int, code: int) -> None:
        """Write a note along with the next group, or after ``wake``. Hot."""
        self._said.append((number, code))
        self.said_count += 1

    def wake(self) -> None:
        """Write notes that wait, and look for space."""
        self._wake.put(None)

    def close(self, timeout_s: float, *, flush: bool = True) -> None:
        """Write what waits unless ``flush`` is false, and end the thread. Blocking."""
        if self._thread.ident is None:
            return
        if not flush:
            self._waiting.clear()
            self._said.clear()
        self._closing = True
        self._wake.put(None)
        self._thread.join(timeout_s)

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            writer = self._opened()
            if writer is not None:
                self._work(writer)
        except Exception as error:  # a bug: nothing can be recorded, so nothing may be admitted
            _log.exception("the thread of the spool failed")
            self._tell(self._on_broken, f"its thread failed: {error!r}")

    def _opened(self) -> SpoolWriter | None:
        while self._writer is None and not self._closing:
            self._pause(PROBE_S)
            with contextlib.suppress(OSError):
                self._writer = self._open_writer()
        if self._writer is not None:
            self._tell_state(self._writer)
        return self._writer

    def _work(self, writer: SpoolWriter) -> None:
        stored, prepared = True, not writer.full
        while True:
            self._pause(None if stored and prepared else PROBE_S)
            # Cleared before the queue is read, so that later additions wake again.
            self._awake = False
            closing = self._closing
            began_mono_ms = self._now_mono_ms()
            self._take(writer)
            stored = self._store(writer, sync=bool(self._group) or closing)
            if stored:
                self._tell_stored(writer, self._now_mono_ms() - began_mono_ms)
            prepared = self._prepare(writer)
            if closing:
                break
        if stored:
            writer.close()

    def _pause(self, seconds: float | None) -> None:
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=seconds)

    def _take(self, writer: SpoolWriter) -> None:
        """Take what waits: records in the order of their numbers, then notes."""
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        said = [self._said.popleft() for _ in range(len(self._said))]
        self._group += taken
        self._noting += len(said)
        self._left.extend([(number, frame) for number, frame, _call in taken])
        if taken:
            self._last_seq = taken[-1][0]
        for note in encode_notes(said):
            self._left.append((0, encode_frame(writer.seed, NOTE, self._last_seq, note)))

    def _store(self, writer: SpoolWriter, *, sync: bool) -> bool:
        """Whether everything that was taken is in the files."""
        try:
            if self._left:
                writer.commit(self._left, sync=sync)
        except NoSpace as reason:
            writer.failure = writer.failure or str(reason)
            return False
        except OSError as error:
            writer.failure = str(error)
            return False
        return True

    def _tell_stored(self, writer: SpoolWriter, took_ms: float) -> None:
        self.noted_count += self._noting
        self._noting = 0
        group, self._group = self._group, []
        if group:
            self._tell(self._told_stored, writer, writer.free_bytes, group, took_ms)

    def _told_stored(
        self, writer: SpoolWriter, free_bytes: int, group: list[Waiting], took_ms: float
    ) -> None:
        """On the event loop, which is woken once for both: each time costs it some microseconds."""
        self._on_state(writer, free_bytes)  # first: the group's space is not counted as free twice
        self._on_committed(group, took_ms)

    def _prepare(self, writer: SpoolWriter) -> bool:
        """Keep the headroom allocated; tell the event loop when that has changed."""
        before = (writer.free_bytes, writer.full)
        prepared = writer.prepare()
        if before != (writer.free_bytes, writer.full) or writer.failure:
            self._tell_state(writer)
        return prepared

    def _tell_state(self, writer: SpoolWriter) -> None:
        self._tell(self._on_state, writer, writer.free_bytes)

    def _tell(self, call: Callable[..., None], *args: object) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(call, *args)
