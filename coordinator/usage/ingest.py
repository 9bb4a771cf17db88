"""Counts the batches of agents' spools, each record exactly once."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from coordinator.core.usage_batch import check_batch
from coordinator.store.sqlite.connection import as_unavailable, transaction
from coordinator.usage.group import Group, Outcome, take_batch
from coordinator.usage.key_uses import KeyUseWriter
from coordinator.usage.rollups import Rollups
from protos.domain.errors import Overloaded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.core.usage_batch import SpoolBatch
    from coordinator.core.usage_checks import KnownFleet
    from coordinator.core.usage_facts import Fact
    from coordinator.core.usage_rollup import UsageDelta
    from coordinator.usage.database import UsageDatabase
    from protos.domain.fleet_view import FleetView
    from protos.domain.usage_counters import CounterSums
    from protos.domain.usage_record import UsageRecord

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: Runs inside the transaction that counts the deltas: what it raises undoes them all.
Post = Callable[[sqlite3.Connection, "list[UsageDelta]"], None]
#: Called on the event loop after the commit.
Committed = Callable[["list[UsageDelta]"], None]

#: Bytes of batches that wait for the database.
MAX_WAITING_BYTES = 64 * 1024**2
#: Batches in one transaction, so that none waits for long.
MAX_GROUP_BATCHES = 512
_MAX_GROUP_BYTES = 8 * 1024**2
#: Views that wait to be looked at; beyond it only the newest ones are kept.
_MAX_VIEWS = 256
_BUSY_S = 1.0
_INSERT_RAW = "INSERT INTO raw VALUES (?, ?, ?, ?, ?, ?, ?)"
_INSERT_HELD = (
    "INSERT INTO quarantine (node, spool, seq, last_seq, kind, reason, payload, arrived_unix_ms,"
    " state, settled_by, settled_unix_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'held', '', 0)"
    " ON CONFLICT (node, spool, seq, kind) DO NOTHING"
)
_INSERT_FACT = "INSERT INTO facts VALUES (?) ON CONFLICT DO NOTHING"


@dataclass(slots=True)
class _Waiting:
    batch: SpoolBatch
    size_bytes: int
    #: Done once the batch is committed, or cannot be.
    ended: asyncio.Future[None]
    outcome: Outcome | None = None
    error: Exception | None = None


@dataclass(slots=True)
class IngestCounters:
    """Totals since the start of the process."""

    batches: int = 0
    records: int = 0
    duplicates: int = 0
    quarantined: int = 0
    conflicts: int = 0
    clock_suspect: int = 0
    refused: int = 0
    commits: int = 0


@dataclass(slots=True)
class _Committed:
    """What a transaction has done, for the event loop."""

    deltas: list[UsageDelta] = field(default_factory=list)
    done: list[_Waiting] = field(default_factory=list)


class Ingest:
    """The one writer of usage. Batches that arrive together share a transaction."""

    def __init__(
        self,
        database: UsageDatabase,
        *,
        post: Post = lambda connection, deltas: None,
        committed: Committed = lambda deltas: None,
        closed_through_unix_ms: Callable[[], int] = lambda: 0,
        known: KnownFleet | None = None,
    ) -> None:
        """``known`` is what nodes are believed of; None: everything."""
        self.counters = IngestCounters()
        self._database = database
        self._post = post
        self._committed = committed
        self._closed_through_unix_ms = closed_through_unix_ms
        self._known = known
        self._rollups = Rollups()
        self._key_uses = KeyUseWriter()
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        #: What the writer's thread has at hand.
        self._taken: list[_Waiting] = []
        #: Takes what waits; None: nothing does.
        self._taker: asyncio.Task[None] | None = None
        #: Facts that are in memory, and in no transaction that was committed.
        self._unsaved: list[Fact] = []
        self._views: deque[FleetView] = deque(maxlen=_MAX_VIEWS)

    async def push(self, batch: SpoolBatch) -> Outcome:
        """Count what is new of ``batch``; returns after the commit.

        Raises: InvalidRequest for a batch that no spool makes; Overloaded; StoreUnavailable.
        """
        check_batch(batch)
        size_bytes = sum(len(payload) for _, payload in batch.records) + 1_024
        if self._waiting_bytes + size_bytes > MAX_WAITING_BYTES and self._waiting:
            raise Overloaded(
                "too much usage waits for the database", "send it again", retry_after_s=_BUSY_S
            )
        waiting = _Waiting(batch, size_bytes, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._waiting_bytes += size_bytes
        if self._taker is None:
            # Of no caller, any of which may leave; it gives every error to those that wait.
            self._taker = asyncio.get_running_loop().create_task(self._take_waiting())
        await waiting.ended
        if waiting.error is not None:
            raise waiting.error
        assert waiting.outcome is not None
        return waiting.outcome

    async def _take_waiting(self) -> None:
        """Commit what waits, group after group.

        One job at a time: what comes during a commit makes the next group, and agents that send
        again what a busy database has not taken in time leave nothing behind.
        """
        try:
            while self._waiting:
                try:
                    await self._database.run(self._commit_waiting, self._published)
                except Exception as error:
                    # Without a group at hand the job was not run: nothing that waits can be.
                    if not self._taken:
                        self._taken = [*self._waiting]
                        self._waiting.clear()
                    for one in self._taken:
                        if one.outcome is None:
                            one.error = one.error or error
                self._end_taken()
        finally:
            self._taker = None

    def _end_taken(self) -> None:
        taken, self._taken = self._taken, []
        for one in taken:
            self._waiting_bytes -= one.size_bytes
            if not one.ended.done():  # else its caller was cancelled
                one.ended.set_result(None)

    async def add(
        self,
        records: Sequence[UsageRecord],
        counters: Sequence[CounterSums],
        change: Callable[[sqlite3.Connection], None],
    ) -> None:
        """Count records that were held back; ``change`` runs in the same transaction first."""

        def work(connection: sqlite3.Connection) -> list[UsageDelta]:
            change(connection)
            return self._count(connection, records, counters)

        await self._database.run(
            lambda connection: _Committed(self._transaction(connection, work)), self._published
        )

    def saw(self, view: FleetView) -> None:
        """Remember what ``view`` shows, with the next transaction."""
        self._views.append(view)

    async def remember(self) -> None:
        """Write what was seen now. Raises: StoreUnavailable."""
        if self._views:
            await self._database.run(
                lambda connection: self._transaction(connection, lambda within: None),
                lambda done: None,
            )

    def _commit_waiting(self, connection: sqlite3.Connection) -> _Committed:
        """Take what waits, in one transaction. In the writer's thread."""
        taken: list[_Waiting] = []
        size_bytes = 0
        while self._waiting and len(taken) < MAX_GROUP_BATCHES and size_bytes < _MAX_GROUP_BYTES:
            one = self._waiting.popleft()
            size_bytes += one.size_bytes
            taken.append(one)
        self._taken = taken
        try:
            return self._commit(connection, taken)
        except sqlite3.Error as error:
            failure = as_unavailable(error, self._database.path) or error
            for one in taken:
                one.error = failure
            raise
        except Exception as error:
            _log.exception("a group of batches could not be counted batches=%d", len(taken))
            if len(taken) == 1:
                taken[0].error = error
                raise
        return self._one_by_one(connection, taken)

    def _one_by_one(self, connection: sqlite3.Connection, taken: list[_Waiting]) -> _Committed:
        """Commit each batch alone: those that can be counted do not wait for one that cannot."""
        together = _Committed()
        for one in taken:
            try:
                alone = self._commit(connection, [one])
            except Exception as error:
                one.error = error
            else:
                together.deltas += alone.deltas
                together.done += alone.done
        return together

    def _commit(self, connection: sqlite3.Connection, taken: list[_Waiting]) -> _Committed:
        group = Group()
        outcomes: list[Outcome] = []

        def work(connection: sqlite3.Connection) -> list[UsageDelta]:
            outcomes.extend(take_batch(connection, one.batch, self._known, group) for one in taken)
            connection.executemany(_INSERT_RAW, group.raw)
            connection.executemany(_INSERT_HELD, group.held)
            return self._count(connection, group.records, group.counters)

        deltas = self._transaction(connection, work)
        for one, outcome in zip(taken, outcomes, strict=True):
            one.outcome = outcome
        return _Committed(deltas, taken)

    def _transaction(
        self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]
    ) -> T:
        """Run ``work`` between BEGIN and COMMIT, behind what was seen of the fleet."""
        try:
            with transaction(connection):
                self._observe(connection)
                result = work(connection)
        except BaseException:
            self._rollups.forget()
            self._key_uses.forget()
            raise
        self._unsaved.clear()
        return result

    def _count(
        self,
        connection: sqlite3.Connection,
        records: Sequence[UsageRecord],
        counters: Sequence[CounterSums],
    ) -> list[UsageDelta]:
        self._key_uses.note(connection, records)
        deltas = self._rollups.add(connection, records, counters, self._closed_through_unix_ms())
        if deltas:
            self._post(connection, deltas)
        return deltas

    def _observe(self, connection: sqlite3.Connection) -> None:
        if self._known is None:
            self._views.clear()
            return
        while self._views:
            self._unsaved += self._known.observe(self._views.popleft())
        connection.executemany(_INSERT_FACT, [(json.dumps(fact),) for fact in self._unsaved])

    def _published(self, committed: _Committed) -> None:
        if committed.done:
            self._add_to_counters(committed.done)
        if committed.deltas:
            self._committed(committed.deltas)

    def _add_to_counters(self, done: list[_Waiting]) -> None:
        counters = self.counters
        counters.commits += 1
        for outcome in (one.outcome for one in done):
            if outcome is None:
                continue
            counters.batches += 1
            counters.records += outcome.taken
            counters.duplicates += outcome.duplicates
            counters.quarantined += outcome.quarantined
            counters.conflicts += outcome.conflicts
            counters.clock_suspect += outcome.suspect
            counters.refused += outcome.refused
