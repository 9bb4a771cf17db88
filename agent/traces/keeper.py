"""Builds, writes and exports traces on a thread of its own, so that the event loop never waits.

Traces over the limits are dropped and counted; requests are never delayed for them.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from agent.traces.ring import (
    TraceRing,
    find_trace,
    is_damaged,
    list_traces,
    rename_damaged,
    row_of,
)
from agent.traces.stats import TraceStats
from protos.domain.errors import EngineFailed

if TYPE_CHECKING:
    from agent.traces.ring import Row
    from protos.domain.trace import Trace
    from protos.v1 import trace_pb2

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: Most finished requests that wait for the thread; further traces are dropped.
MAX_PENDING = 4_096
#: Share of ``MAX_PENDING`` reserved for requests that failed or were late.
RESERVED_SHARE = 0.25
#: Traces in one transaction, and the time between two. A trace costs more CPU than its request:
#: above this rate only a sample is kept, and those that failed or were late.
MAX_BATCH = 256
BATCH_WAIT_S = 1.0
#: Longest wait of a query for the requests that finished before it to be written.
SETTLE_TIMEOUT_S = 2.0
#: Longest time that closing waits for pending traces.
CLOSE_TIMEOUT_S = 5.0
#: After this many steps, of about 30 us each for a small trace, the thread releases the
#: interpreter to the event loop for this long. A switch costs about as much as a step.
_STEPS_AT_ONCE = 6
_YIELD_S = 0.0001


class TraceKeeper:
    """Accepts finished requests and answers queries about their traces."""

    def __init__(
        self,
        path: Path,
        *,
        max_rows: int,
        max_bytes: int,
        export: Callable[[Trace], None] | None = None,
        max_pending: int = MAX_PENDING,
    ) -> None:
        self._path = path
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._export = export
        self._max_pending = max_pending
        self._max_ordinary = max_pending - int(RESERVED_SHARE * max_pending)
        self.stats = TraceStats()
        self._pending: deque[Callable[[], Trace]] = deque()
        self._ring: TraceRing | None = None
        self._wake = threading.Event()
        self._flush_requested = threading.Event()
        self._settled = threading.Condition()
        #: Accepted so far, and processed so far, kept or not; -1 before the file was opened.
        self._taken, self._done = 0, -1
        self._closing = False
        self._steps = 0
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def take(self, make: Callable[[], Trace], matters: bool = False) -> None:
        """Accept a function that builds a finished request's trace. Hot; for the event loop only.

        ``matters``: the request failed or was late, so that its trace may use reserved places.
        """
        if len(self._pending) >= (self._max_pending if matters else self._max_ordinary):
            self.stats.dropped += 1
            return
        self._taken += 1
        self._pending.append(make)
        if not self._wake.is_set():
            self._wake.set()

    async def listed(self, wanted: trace_pb2.TraceFilter) -> list[trace_pb2.TraceSummary]:
        """Return trace summaries. Raises: InvalidRequest, EngineFailed when the disk fails."""
        return await self._read(lambda: list_traces(self._path, wanted))

    async def found(self, trace_id: str) -> trace_pb2.Trace | None:
        """Return one trace, or None. Raises: EngineFailed when the disk fails."""
        return await self._read(lambda: find_trace(self._path, trace_id))

    async def close(self) -> None:
        """Write pending traces, for a bounded time."""
        if self._thread.ident is None:
            return  # the agent failed before it started the thread
        self._closing = True
        self._flush_requested.set()
        self._wake.set()
        await asyncio.to_thread(self._thread.join, CLOSE_TIMEOUT_S)

    async def _read(self, read: Callable[[], T]) -> T:
        until = self._taken

        def settle_and_read() -> T:
            self._flush_requested.set()
            with self._settled:
                self._settled.wait_for(lambda: self._done >= until, SETTLE_TIMEOUT_S)
            return read()

        try:
            return await asyncio.to_thread(settle_and_read)
        except sqlite3.Error as error:
            raise EngineFailed(
                f"the traces on disk cannot be read: {error}", "see the agent's log, or ask again"
            ) from error

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        self._write([])
        self._settle(1)
        while True:
            self._wake.wait()
            flush_requested = self._flush_requested.wait(BATCH_WAIT_S)
            # Cleared before the queue is read, so that later additions set them again.
            self._flush_requested.clear()
            self._wake.clear()
            closing = self._closing
            left = len(self._pending) if flush_requested or closing else MAX_BATCH
            while self._pending and left > 0:
                self._process([self._pending.popleft() for _ in range(self._batch())])
                left -= MAX_BATCH
            if closing:
                break
            if self._pending:
                self._wake.set()
        if self._ring is not None:
            self._ring.close()

    def _batch(self) -> int:
        return min(MAX_BATCH, len(self._pending))

    def _process(self, makers: list[Callable[[], Trace]]) -> None:
        rows = [row for row in map(self._make_row, makers) if row is not None]
        self.stats.dropped += len(makers) - len(rows)
        self._write(rows)
        self._settle(len(makers))

    def _settle(self, count: int) -> None:
        with self._settled:
            self._done += count
            self._settled.notify_all()

    def _make_row(self, make: Callable[[], Trace]) -> Row | None:
        try:
            self._yield_interpreter()
            trace = make()
            self._yield_interpreter()
            row = row_of(trace)
            if self._export is not None:
                self._yield_interpreter()
                self._export(trace)
        except Exception:  # a bug loses this trace, not every later one
            _log.exception("a trace could not be made")
            return None
        return row

    def _yield_interpreter(self) -> None:
        self._steps += 1
        if self._steps % _STEPS_AT_ONCE == 0:
            time.sleep(_YIELD_S)

    def _write(self, rows: list[Row]) -> None:
        stats = self.stats
        try:
            ring = self._ring or TraceRing(
                self._path, max_rows=self._max_rows, max_bytes=self._max_bytes
            )
            self._ring = ring
            ring.append(rows)
        except (sqlite3.Error, OSError) as error:
            stats.dropped += len(rows)
            self._failed(error)
            return
        stats.kept += len(rows)
        stats.rows, stats.kept_bytes = ring.rows, ring.kept_bytes
        if stats.failure:
            _log.info("traces are written again")
            stats.failure = ""

    def _failed(self, error: sqlite3.Error | OSError) -> None:
        if not self.stats.failure:
            _log.warning("traces cannot be kept and are dropped path=%s: %s", self._path, error)
        self.stats.failure = str(error)
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        if isinstance(error, sqlite3.Error) and is_damaged(error):
            _log.error("the traces on disk are damaged and set aside path=%s", self._path)
            rename_damaged(self._path)
