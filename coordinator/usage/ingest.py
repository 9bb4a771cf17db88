"""Counts the batches of agents' spools, each record exactly once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

    from coordinator.core.usage_rollup import UsageDelta
    from coordinator.usage.database import UsageDatabase

#: Runs inside the transaction that counts the deltas: what it raises undoes them all.
Post = Callable[["sqlite3.Connection", "list[UsageDelta]"], None]
#: Called on the event loop after the commit.
Committed = Callable[["list[UsageDelta]"], None]


class Ingest:
    """The one writer of usage."""

    def __init__(
        self,
        database: UsageDatabase,
        *,
        post: Post = lambda connection, deltas: None,
        committed: Committed = lambda deltas: None,
        closed_through_unix_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        self._database = database
        self._post = post
        self._committed = committed
        self._closed_through_unix_ms = closed_through_unix_ms
