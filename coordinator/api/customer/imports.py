"""Imports that customers have asked for: they run on when the request has been answered."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from protos.domain.errors import EdgeForgeError, NotFound, Overloaded

_log = logging.getLogger(__name__)

#: Imports that run at once, of all accounts; and of one account those that are remembered.
MAX_RUNNING = 8
MAX_KEPT = 20
_MAX_ACCOUNTS = 1_000


@dataclass(slots=True)
class Job:
    """One import. ``state`` is "running", "done" or "failed"."""

    id: str
    upstream: str
    name: str
    began_unix_ms: int
    state: str = "running"
    stage: str = "waiting"
    received_bytes: int = 0
    total_bytes: int = 0
    error: str = ""


#: Imports, and reports to the job as it goes on; returns the name that was published.
Work = Callable[[Job], Awaitable[str]]


def _is_idle(jobs: list[Job]) -> bool:
    return all(one.state != "running" for one in jobs)


class ImportJobs:
    """The imports since this coordinator's start; what is published stays without them."""

    def __init__(self, now_unix_ms: Callable[[], int]) -> None:
        self._now_unix_ms = now_unix_ms
        self._jobs: dict[str, list[Job]] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    def begin(self, account_id: str, upstream: str, name: str, work: Work) -> Job:
        """Start an import. Raises: Overloaded while the account runs one, or too many run."""
        own = self._jobs.get(account_id, [])
        if any(one.state == "running" for one in own):
            raise Overloaded(
                "the account imports something already", "wait until that is done", retry_after_s=30
            )
        if len(self._running) >= MAX_RUNNING:
            raise Overloaded("too many imports run now", "try again later", retry_after_s=60)
        job = Job(f"i-{secrets.token_hex(8)}", upstream, name, self._now_unix_ms())
        self._jobs.pop(account_id, None)
        self._jobs[account_id] = [*own, job][-MAX_KEPT:]
        if len(self._jobs) > _MAX_ACCOUNTS:  # more than run, so that one can be forgotten
            self._jobs.pop(next(name for name, jobs in self._jobs.items() if _is_idle(jobs)))
        task = asyncio.get_running_loop().create_task(self._run(job, work))
        self._running[job.id] = task
        task.add_done_callback(lambda _: self._running.pop(job.id, None))
        return job

    def of(self, account_id: str) -> list[Job]:
        """Return the imports of an account, newest first."""
        return self._jobs.get(account_id, [])[::-1]

    def find(self, account_id: str, job_id: str) -> Job:
        """Return one import of an account. Raises: NotFound."""
        for one in self._jobs.get(account_id, ()):
            if one.id == job_id:
                return one
        raise NotFound(f"there is no import {job_id!r}", "ask for it again: it goes on")

    async def close(self) -> None:
        """End what runs; asked for again, it goes on where it stopped."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job: Job, work: Work) -> None:
        try:
            job.name = await work(job)
            job.state, job.stage = "done", ""
        except EdgeForgeError as error:
            job.state, job.error = "failed", str(error)
        except asyncio.CancelledError:
            job.state, job.error = "failed", "the coordinator was stopped"
            raise
        except Exception:
            _log.exception("import failed job=%s", job.id)
            job.state, job.error = "failed", "this is a fault of ours"
