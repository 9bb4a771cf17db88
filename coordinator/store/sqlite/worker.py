"""A thread with a SQLite connection and a bounded queue of jobs from the event loop."""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar, cast

from coordinator.store.sqlite.connection import as_unavailable
from protos.domain.errors import StoreUnavailable

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: Jobs that may wait for the thread; the next one is refused.
QUEUE_LIMIT = 1_024
#: A job that has waited this long for its turn is refused instead of run.
QUEUE_WAIT_LIMIT_MS = 5_000.0
#: How often a probe tests the database while it is unavailable and no job runs.
_PROBE_INTERVAL_S = 0.5


@dataclass(slots=True)
class _Job(Generic[T]):
    work: Callable[[sqlite3.Connection], T]
    published: Callable[[T], None]
    deadline_mono_ms: float
    done: asyncio.Future[T] = field(repr=False)


class Worker:
    """Runs jobs one after another on its own connection.

    A job that fails because the database is locked, full or unreadable becomes StoreUnavailable;
    the state is logged once when it begins and once when it ends, which a probe detects without
    any job.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        connect: Callable[[], sqlite3.Connection],
        *,
        now_mono_ms: Callable[[], float],
        probe: Callable[[sqlite3.Connection], None],
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        self._name = name
        self._path = path
        self._connect = connect
        self._now_mono_ms = now_mono_ms
        self._probe = probe
        self._jobs: queue.Queue[_Job[object] | None] = queue.Queue(queue_limit)
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._unavailable_since_mono_ms: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"store-{name}", daemon=True)
        self._opened: asyncio.Future[None] = self._loop.create_future()

    @property
    def available(self) -> bool:
        """Whether the last job or probe reached the database."""
        return self._unavailable_since_mono_ms is None

    async def start(self) -> None:
        """Connect. Raises: StoreUnavailable."""
        self._thread.start()
        await self._opened

    async def run(
        self,
        work: Callable[[sqlite3.Connection], T],
        published: Callable[[T], None] = lambda result: None,
    ) -> T:
        """Return what ``work(connection)`` returns in the thread.

        ``published(result)`` is called on the event loop, in the order of the jobs, before this
        returns, and also when the caller was cancelled meanwhile. Raises: StoreUnavailable.
        """
        if self._closing:
            raise StoreUnavailable("the coordinator is stopping", "ask again in a moment")
        done: asyncio.Future[T] = self._loop.create_future()
        job = _Job(work, published, self._now_mono_ms() + QUEUE_WAIT_LIMIT_MS, done)
        try:
            self._jobs.put_nowait(cast("_Job[object]", job))
        except queue.Full:
            raise StoreUnavailable(
                f"{self._jobs.maxsize} requests wait for the coordinator's database",
                "ask again in a moment",
            ) from None
        return await done

    async def close(self) -> None:
        """Finish what is queued and end the thread."""
        if not self._closing and self._thread.ident is not None:
            self._closing = True
            await asyncio.to_thread(self._jobs.put, None)
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            connection = self._connect()
        except sqlite3.Error as error:
            self._deliver(self._opened.set_exception, as_unavailable(error, self._path) or error)
            return
        except BaseException as error:
            self._deliver(self._opened.set_exception, error)
            return
        try:
            self._deliver(self._opened.set_result, None)
            while True:
                try:
                    job = self._jobs.get(timeout=None if self.available else _PROBE_INTERVAL_S)
                except queue.Empty:
                    self._try_probe(connection)
                    continue
                if job is None:
                    return
                self._do(job, connection)
        finally:
            connection.close()

    def _do(self, job: _Job[object], connection: sqlite3.Connection) -> None:
        if self._now_mono_ms() > job.deadline_mono_ms:
            late = StoreUnavailable(
                "the coordinator's database is too slow", "ask again in a moment"
            )
            self._deliver(_fail, job, late)
            return
        unavailable = None
        try:
            result = job.work(connection)
        except sqlite3.Error as error:
            unavailable = as_unavailable(error, self._path)
            if unavailable is not None:
                self._became_unavailable(unavailable)
            self._deliver(_fail, job, unavailable or error)
        except Exception as error:
            self._deliver(_fail, job, error)
        else:
            self._deliver(_succeed, job, result)
        if not self.available and unavailable is None:
            # A job that wrote nothing succeeds on a full disk too, so only the probe decides.
            self._try_probe(connection)

    def _try_probe(self, connection: sqlite3.Connection) -> None:
        try:
            self._probe(connection)
        except sqlite3.Error as error:
            _log.debug("database still unavailable thread=%s error=%s", self._name, error)
        else:
            self._became_available()

    def _became_unavailable(self, error: StoreUnavailable) -> None:
        if self._unavailable_since_mono_ms is None:
            self._unavailable_since_mono_ms = self._now_mono_ms()
            _log.error("database unavailable thread=%s: %s", self._name, error)

    def _became_available(self) -> None:
        since_mono_ms = self._unavailable_since_mono_ms
        if since_mono_ms is not None:
            self._unavailable_since_mono_ms = None
            lasted_ms = self._now_mono_ms() - since_mono_ms
            _log.warning("database available again thread=%s after_ms=%.0f", self._name, lasted_ms)

    def _deliver(self, callback: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            _log.error("event loop ended before its database thread=%s", self._name)


def _succeed(job: _Job[object], result: object) -> None:
    try:
        job.published(result)
    except Exception as error:
        _log.exception("a commit could not be published")
        _fail(job, error)
        return
    if not job.done.done():
        job.done.set_result(result)


def _fail(job: _Job[object], error: BaseException) -> None:
    if not job.done.done():
        job.done.set_exception(error)
