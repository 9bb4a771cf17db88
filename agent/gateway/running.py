"""The requests in progress at this agent, to be revoked by a changed table or cut by a stop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from protos.domain.errors import EdgeForgeError

#: Requests looked at before the event loop gets its turn: to cut one takes about 0.1 ms.
_PER_SLICE = 32


class InProgress(Protocol):
    """One request in progress."""

    def table_changed(self) -> None:
        """Look whether the table still allows it."""

    def cut_short(self, error: EdgeForgeError) -> None:
        """End it with ``error``."""


class RunningRequests:
    """A set of requests, so that a change of the table visits each of them without polling."""

    def __init__(self) -> None:
        self._running: set[InProgress] = set()

    def __len__(self) -> int:
        return len(self._running)

    def add(self, request: InProgress) -> None:
        """Add a request that has begun."""
        self._running.add(request)

    def discard(self, request: InProgress) -> None:
        """Remove a request that has ended."""
        self._running.discard(request)

    def table_changed(self) -> None:
        """Let every request look at the table, a few at a time. Called from the event loop."""
        if self._running:
            self._visit(list(self._running))

    def cut_short(self, error: EdgeForgeError) -> int:
        """End every request with ``error``; return how many there were."""
        running = list(self._running)
        for request in running:
            request.cut_short(error)
        return len(running)

    def _visit(self, requests: list[InProgress]) -> None:
        for request in requests[:_PER_SLICE]:
            request.table_changed()
        if len(requests) > _PER_SLICE:
            asyncio.get_running_loop().call_soon(self._visit, requests[_PER_SLICE:])
