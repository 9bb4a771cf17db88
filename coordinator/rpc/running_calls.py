"""Calls in progress, by the name of their caller, so that a revocation can end them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from protos.domain.errors import Forbidden


class RunningCalls:
    """Bounded by the listener's limit of calls."""

    def __init__(self) -> None:
        self._tasks: dict[str, set[asyncio.Task[object]]] = {}
        self._ended: set[asyncio.Task[object]] = set()

    @contextlib.contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Count the current task as a call of ``name``. Raises: Forbidden when it is ended."""
        task = asyncio.current_task()
        assert task is not None
        tasks = self._tasks.setdefault(name, set())
        tasks.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            task.uncancel()
            raise Forbidden(
                f"the call of {name} was ended: its rights have changed", "ask an admin"
            ) from None
        finally:
            tasks.discard(task)
            self._ended.discard(task)
            if not tasks and self._tasks.get(name) is tasks:
                del self._tasks[name]

    def end(self, name: str) -> None:
        """End every call of ``name`` but the one that asks for it."""
        for task in self._tasks.get(name, set()) - {asyncio.current_task()}:
            self._ended.add(task)
            task.cancel()
