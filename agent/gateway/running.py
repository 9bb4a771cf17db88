"""The requests in progress at this agent, told when the routing table may have revoked some."""

from __future__ import annotations

import asyncio
from typing import Protocol

#: Requests looked at before the event loop gets its turn: to cut one takes about 0.1 ms.
_PER_SLICE = 32


class Revocable(Protocol):
    """One request in progress."""

    def table_changed(self) -> None:
        """Look whether the table still allows it."""


class RunningRequests:
    """A set of requests, so that a change of the table visits each of them without polling."""

    def __init__(self) -> None:
        self._running: set[Revocable] = set()

    def __len__(self) -> int:
        return len(self._running)

    def add(self, request: Revocable) -> None:
        """Add a request that has begun."""
        self._running.add(request)

    def discard(self, request: Revocable) -> None:
        """Remove a request that has ended."""
        self._running.discard(request)

    def table_changed(self) -> None:
        """Let every request look at the table, a few at a time. Called from the event loop."""
        if self._running:
            self._visit(list(self._running))

    def _visit(self, requests: list[Revocable]) -> None:
        for request in requests[:_PER_SLICE]:
            request.table_changed()
        if len(requests) > _PER_SLICE:
            asyncio.get_running_loop().call_soon(self._visit, requests[_PER_SLICE:])
