"""Queries to agents that wait for an answer: a bounded number, each for a bounded time."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.errors import DeadlineExceeded, LinkDown, Overloaded
from protos.v1 import fleet_pb2

if TYPE_CHECKING:
    from coordinator.core.fleet_figures import FleetCounters
    from coordinator.fleet.session import AgentSession

DEFAULT_TIMEOUT_MS = 5_000.0


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """See ``[limits]`` of the configuration."""

    max_all: int = 256
    max_per_node: int = 8
    max_timeout_ms: float = 30_000.0


class AgentQueries:
    """All queries that wait for an answer."""

    def __init__(self, limits: QueryLimits, counters: FleetCounters, zone: str = "") -> None:
        """``zone`` is where this coordinator stands; empty: not said."""
        self._zone = zone
        self._limits = limits
        self._counters = counters
        self._last_id = 0
        self._waiting: dict[str, tuple[AgentSession, asyncio.Future[fleet_pb2.Answer]]] = {}
        self._of_node: Counter[str] = Counter()

    async def ask(self, session: AgentSession, query: fleet_pb2.Query) -> fleet_pb2.Answer:
        """Return the agent's answer. Raises: Overloaded, LinkDown, DeadlineExceeded."""
        self._check_room(session.node_id)
        self._last_id += 1
        sent = fleet_pb2.Query()
        sent.CopyFrom(query)
        sent.id = str(self._last_id)
        sent.asking_zone = self._zone
        timeout_ms = min(query.timeout_ms or DEFAULT_TIMEOUT_MS, self._limits.max_timeout_ms)
        sent.timeout_ms = int(timeout_ms)
        answered: asyncio.Future[fleet_pb2.Answer] = asyncio.get_running_loop().create_future()
        self._waiting[sent.id] = (session, answered)
        self._of_node[session.node_id] += 1
        self._counters.questions += 1
        session.send_query(fleet_pb2.CoordinatorMessage(query=sent).SerializeToString())
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                return await answered
        except TimeoutError:
            self._counters.questions_failed += 1
            raise DeadlineExceeded(
                f"node {session.node_id!r} did not answer within {timeout_ms:.0f} ms",
                "its agent may be overloaded: see its metrics, or ask again",
            ) from None
        finally:
            del self._waiting[sent.id]
            self._of_node[session.node_id] -= 1
            self._of_node += Counter()  # drops the zeros

    def answer(self, session: AgentSession, answer: fleet_pb2.Answer) -> bool:
        """Deliver an answer; return whether it was waited for.

        One that is late or answers another session's query is ignored.
        """
        asked, answered = self._waiting.get(answer.id, (None, None))
        if asked is session and answered is not None and not answered.done():
            answered.set_result(answer)
            return True
        return False

    def lost(self, session: AgentSession) -> None:
        """Fail the queries of a stream that has ended."""
        for asked, answered in self._waiting.values():
            if asked is session and not answered.done():
                self._counters.questions_failed += 1
                answered.set_exception(
                    LinkDown(
                        f"node {session.node_id!r} disconnected before it answered",
                        "it reconnects by itself: ask again in a minute",
                    )
                )

    def _check_room(self, node_id: str) -> None:
        """Raises: Overloaded."""
        if len(self._waiting) >= self._limits.max_all:
            raise Overloaded(
                f"{len(self._waiting)} questions to agents are under way", "ask again in a moment"
            )
        if self._of_node[node_id] >= self._limits.max_per_node:
            raise Overloaded(
                f"{self._of_node[node_id]} questions to {node_id!r} are under way",
                "ask again in a moment",
            )
