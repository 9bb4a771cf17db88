"""The connected agents: one stream for each node, and messages to all of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from coordinator.core.push_session import Forced, Holding, TableChanged
from coordinator.core.twins import Twin, TwinWatch
from coordinator.fleet.agent_queries import AgentQueries, QueryLimits
from coordinator.fleet.live import LiveNode
from coordinator.fleet.stream_bytes import beat_bytes
from coordinator.fleet.table_scopes import table_scope
from protos.domain.errors import Conflict, LinkDown, Overloaded, removed
from protos.domain.resources import ResourceType

if TYPE_CHECKING:
    from coordinator.core.fleet_figures import FleetCounters
    from coordinator.fleet.live import ReadReport
    from coordinator.fleet.memory import FleetMemory
    from coordinator.fleet.session import AgentSession
    from coordinator.store.store import Store
    from protos.domain.routing_table import TableVersion
    from protos.v1 import fleet_pb2

_log = logging.getLogger(__name__)

BEAT_INTERVAL_S = 1.0
#: Between two rounds of pushes: short while agents are few. A push and its answer cost about
#: 0.4 ms, so the pause grows with the agents to leave time for statuses and beats.
ROUND_PAUSE_MS = 50.0
ROUND_PAUSE_MS_PER_AGENT = 0.6
MAX_ROUND_PAUSE_MS = 1_500.0
#: A revoked key must be refused within 2 s, so credentials do not wait for a round.
_URGENT = ResourceType.CREDENTIALS
#: Sessions notified before the event loop runs other tasks.
_SESSIONS_PER_STEP = 256
#: Retry time for the agent of a replaced stream, so that two processes with one identity do not
#: replace each other in a fast loop.
_REPLACED_RETRY_MS = 30_000
#: When the coordinator stops, agents reconnect spread over this time.
_STOP_RETRY_MIN_MS = 500.0
_STOP_RETRY_SPREAD_MS = 4_500.0


class FleetRegistry:
    """All streams; implements ``LiveFleet`` for administration."""

    def __init__(
        self,
        store: Store,
        memory: FleetMemory,
        *,
        max_agents: int,
        query_limits: QueryLimits,
        counters: FleetCounters,
        now_mono_ms: Callable[[], float],
        now_unix_ms: Callable[[], int],
        draw: Callable[[], float],
        on_topology_forced: Callable[[], None],
        on_twin: Callable[[str, Twin], None] = lambda node_id, twin: None,
        alive_ms: float = 6_000.0,
        zone: str = "",
    ) -> None:
        """``draw`` returns a random number in [0, 1).

        An agent that was heard within ``alive_ms`` still runs. ``zone`` is the coordinator's.
        """
        self._store = store
        self._memory = memory
        self._max_agents = max_agents
        self._counters = counters
        self._now_mono_ms = now_mono_ms
        self._now_unix_ms = now_unix_ms
        self._draw = draw
        self._on_topology_forced = on_topology_forced
        self._on_twin = on_twin
        self._alive_ms = alive_ms
        self._queries = AgentQueries(query_limits, counters, zone)
        self._sessions: dict[str, AgentSession] = {}
        self._stopping = False
        #: Tables that have changed since the last round.
        self._changed: set[tuple[ResourceType, str]] = set()
        self._round_due = asyncio.Event()
        self._urgent = asyncio.Event()

    @property
    def connected(self) -> int:
        """Number of agents with a stream."""
        return len(self._sessions)

    def connected_nodes(self) -> list[str]:
        """Return the nodes that have a stream."""
        return list(self._sessions)

    def tables_of(self, node_id: str) -> dict[ResourceType, Holding]:
        """Return the identity of every table that ``node_id`` should hold, in the order of pushes.

        Credentials come last: an agent that knows a key knows what its requests cost.
        """
        order = sorted(ResourceType, key=lambda one: one is ResourceType.CREDENTIALS)
        return {one: self._holding(one, table_scope(self._store, one, node_id)) for one in order}

    def held(self, resource_type: ResourceType) -> dict[str, TableVersion]:
        """Return the version of a table that each connected agent has acknowledged."""
        return {
            node_id: session.holding(resource_type).at
            for node_id, session in self._sessions.items()
        }

    def open(self, session: AgentSession) -> None:
        """Register a stream after a valid Hello; an older stream of its node ends.

        Raises: Overloaded, LinkDown while stopping, Conflict for a second host of one identity.
        """
        if self._stopping:
            raise LinkDown("the coordinator is stopping", retry_after_s=self._stop_retry_ms() / 1e3)
        old = self._sessions.get(session.node_id)
        if old is None and len(self._sessions) >= self._max_agents:
            raise Overloaded(
                f"{self._max_agents} agents are connected",
                "raise limits.max_agents of the coordinator",
                retry_after_s=5.0 + 25.0 * self._draw(),
            )
        self._refuse_twin(session, old)
        if old is not None:
            self._counters.streams_replaced += 1
            same = "the same" if old.boot_id == session.boot_id else "another"
            _log.warning("stream replaced node=%s by=%s_process", session.node_id, same)
            old.end(
                f"another stream of {session.node_id} has opened, by {same} process",
                retry_after_ms=_REPLACED_RETRY_MS,
            )
        self._sessions[session.node_id] = session
        self._counters.streams_opened += 1

    def _refuse_twin(self, session: AgentSession, present: AgentSession | None) -> None:
        """Raises: Conflict."""
        if present is None:
            return
        node_id, memory = session.node_id, self._memory.of(session.node_id)
        if memory.twins is None:
            memory.twins = TwinWatch(self._alive_ms)
        heard_mono_ms = max(present.opened_mono_ms, memory.heard_mono_ms)
        twin = memory.twins.opens(
            session.caller, present.caller, heard_mono_ms, self._now_mono_ms()
        )
        if twin is None:
            return
        if twin.is_new:
            self._on_twin(node_id, twin)
        raise Conflict(
            f"another host is connected as {node_id}, from {twin.first_address}: both were made"
            " from one image",
            "enrol one of them under a name of its own: edgeforge-agent enroll --force",
            code="identity_in_use",
            retry_after_s=_REPLACED_RETRY_MS / 1_000,
        )

    @property
    def twins(self) -> int:
        """How many nodes have an identity that a second host uses."""
        now_mono_ms = self._now_mono_ms()
        watches = (memory.twins for _, memory in self._memory.items())
        return sum(one is not None and one.seen(now_mono_ms) is not None for one in watches)

    def close(self, session: AgentSession) -> bool:
        """Remove a stream that has ended; return whether its node has no stream now."""
        was_the_latest = self._sessions.get(session.node_id) is session
        if was_the_latest:
            del self._sessions[session.node_id]
        self._queries.lost(session)
        return was_the_latest

    def heard(self, session: AgentSession, read: ReadReport, complaints: Mapping[str, int]) -> None:
        """Store a node's last status, and its complaints of other enrolled nodes."""
        memory, known = self._memory.of(session.node_id), self._store.node_records()
        memory.read_report, memory.heard_mono_ms = read, self._now_mono_ms()
        about = {node_id: count for node_id, count in complaints.items() if node_id in known}
        self._memory.claims.complained(session.node_id, about)

    def answered(self, session: AgentSession, answer: fleet_pb2.Answer) -> bool:
        """Deliver an answer to its query; return whether it was waited for."""
        return self._queries.answer(session, answer)

    async def ask(self, node_id: str, query: fleet_pb2.Query) -> fleet_pb2.Answer:
        """Send a query to one connected agent. Raises: LinkDown, DeadlineExceeded, Overloaded."""
        session = self._sessions.get(node_id)
        if session is None or session.ended:
            raise LinkDown(
                f"node {node_id!r} is not connected",
                "`edgeforge node ls` shows which are; see the log of its agent",
            )
        return await self._queries.ask(session, query)

    async def force_table(self, resource_type: ResourceType) -> int:
        """Push the present table of one type to every agent, forced; return how many.

        Forcing the topology also confirms that the nodes missing in a freeze are gone.
        """
        for session in self._sessions.values():
            session.handle(Forced(resource_type))
        if resource_type is ResourceType.TOPOLOGY:
            self._on_topology_forced()
        return len(self._sessions)

    def live_node(self, node_id: str) -> LiveNode | None:
        """Return the state of ``node_id``, None if it has not reported since the start."""
        memory = self._memory.find(node_id)
        connected = node_id in self._sessions
        twin = None
        if memory is not None and memory.twins is not None:
            twin = memory.twins.seen(self._now_mono_ms())
        said = "" if twin is None else str(twin)
        if memory is None or memory.read_report is None:
            alone = LiveNode(connected=True, last_status_age_s=-1.0, twin=said)
            return alone if connected else None
        return LiveNode(
            connected=connected,
            last_status_age_s=(self._now_mono_ms() - memory.heard_mono_ms) / 1_000,
            report=memory.read_report(),
            twin=said,
            claims=self._memory.claims.of(node_id),
        )

    def table_changed(self, resource_type: ResourceType, scope: str) -> None:
        """Notify the streams concerned in the next round; a callback of ``Store.on_change``."""
        self._changed.add((resource_type, scope))
        self._round_due.set()
        if resource_type is _URGENT:
            self._urgent.set()
        if resource_type is ResourceType.TOPOLOGY:
            self.end_removed()

    def end_removed(self) -> None:
        """End the streams of removed nodes, since removal revokes their certificates."""
        known = self._store.node_records()
        for node_id in self._sessions.keys() - known.keys():
            error = removed(f"node/{node_id}")
            self._sessions[node_id].end(error.message, error=error)

    def stop(self) -> None:
        """Refuse new streams and end the present ones; agents reconnect spread over seconds."""
        self._stopping = True
        for session in self._sessions.values():
            session.end("the coordinator is stopping", retry_after_ms=int(self._stop_retry_ms()))

    async def push_rounds(self) -> None:
        """Notify streams of changes, at once and then in rounds. Runs until cancelled.

        Changes between two rounds coalesce, so that under many commits each agent gets one push a
        round and not one for each commit.
        """
        while True:
            await self._round_due.wait()
            self._round_due.clear()
            self._urgent.clear()
            changed, self._changed = self._changed, set()
            for resource_type, scope in sorted(changed, key=lambda one: one[0] is not _URGENT):
                await self._notify(resource_type, scope)
            pause_ms = ROUND_PAUSE_MS + ROUND_PAUSE_MS_PER_AGENT * len(self._sessions)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(pause_ms, MAX_ROUND_PAUSE_MS) / 1_000):
                    await self._urgent.wait()

    async def beat(self) -> None:
        """Send the time each second; time out unanswered pushes, end streams of removed nodes.

        Runs until cancelled.
        Source: design, "Time": agents keep an offset from it for their records.
        """
        while True:
            self.end_removed()
            data = beat_bytes(self._now_unix_ms())
            for session in list(self._sessions.values()):
                session.send_beat(data)
                session.tick()
            await asyncio.sleep(BEAT_INTERVAL_S)

    async def _notify(self, resource_type: ResourceType, scope: str) -> None:
        if scope:
            session = self._sessions.get(scope)
            if session is not None:
                session.handle(TableChanged(resource_type, self._holding(resource_type, scope)))
            return
        for count, session in enumerate(list(self._sessions.values()), start=1):
            of_node = table_scope(self._store, resource_type, session.node_id)
            session.handle(TableChanged(resource_type, self._holding(resource_type, of_node)))
            if count % _SESSIONS_PER_STEP == 0:
                await asyncio.sleep(0)

    def _holding(self, resource_type: ResourceType, scope: str) -> Holding:
        table = self._store.table(resource_type, scope)
        return Holding(table.at, table.digest)

    def _stop_retry_ms(self) -> float:
        return _STOP_RETRY_MIN_MS + _STOP_RETRY_SPREAD_MS * self._draw()
