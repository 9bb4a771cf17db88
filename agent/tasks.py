"""Background tasks: kept referenced, logged when they fail, cancelled on close."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Background:
    """A bounded set of tasks with one owner, on one event loop."""

    def __init__(self, *, max_tasks: int = 10_000) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._max_tasks = max_tasks

    def spawn(
        self, work: Coroutine[object, object, None], *, name: str, logged: bool = True
    ) -> asyncio.Task[None]:
        """Run ``work`` until it ends or ``close`` is called.

        ``logged`` is false for a task whose failure somebody waits for.

        Raises: RuntimeError over the limit.
        """
        if len(self._tasks) >= self._max_tasks:
            work.close()
            raise RuntimeError(f"more than {self._max_tasks} background tasks")
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended if logged else self._ended_silently)
        return task

    async def close(self) -> None:
        """Cancel all tasks and wait for their end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended_silently(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background task failed task=%s", task.get_name(), exc_info=error)


async def to_end(work: Callable[[], T], executor: Executor | None = None) -> T:
    """Run ``work`` in a thread; cancelled, wait for its end first: it may use what is closed next.

    ``work`` must end soon by itself.
    """
    future = asyncio.get_running_loop().run_in_executor(executor, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        if not future.cancelled():
            future.exception()  # seen: nobody else asks for it
        raise
