"""A small fleet in virtual time: real push sessions, real agents' table rules, a faulty network.

One event heap and one seeded source of chance, so that a seed is a transcript.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from coordinator.core.push_session import (
    Acked,
    Alarm,
    Command,
    Disconnect,
    Forced,
    HelloReceived,
    Holding,
    Nacked,
    Pushed,
    PushSession,
    SendDelta,
    SendSnapshot,
    TableChanged,
    Ticked,
)
from protos.domain.resources import ResourceType
from protos.domain.routing_table import (
    Delta,
    Push,
    RefusalReason,
    Snapshot,
    Table,
    TableRefused,
    TableVersion,
    apply,
    diff,
    empty_table,
    table_of,
)

TYPES = (ResourceType.TOPOLOGY, ResourceType.DEPLOYMENTS, ResourceType.CREDENTIALS)
PUSH_TIMEOUT_MS = 3_000.0


@dataclass(frozen=True)
class Chances:
    """How often each fault happens."""

    loss: float = 0.05
    duplicate: float = 0.05
    corrupt: float = 0.05
    refuse: float = 0.03
    compacted: float = 0.2


QUIET = Chances(0.0, 0.0, 0.0, 0.0, 0.0)


class Source:
    """The coordinator's tables, with every version they ever had."""

    def __init__(self) -> None:
        self.epoch = 1
        self.seq = 0
        self.tables = {one: table_of(one, TableVersion(1, 0), {}) for one in TYPES}
        self.past: dict[tuple[ResourceType, TableVersion], Table] = {}
        self._remember()

    def change(self, type_: ResourceType, rows: dict[str, bytes]) -> None:
        self.seq += 1
        self.tables[type_] = table_of(type_, TableVersion(self.epoch, self.seq), rows)
        self._remember()

    def restore(self) -> None:
        """Every table goes back to some earlier rows, under a higher epoch."""
        self.epoch += 1
        for type_ in TYPES:
            earlier = [table for (one, _), table in self.past.items() if one is type_]
            rows = earlier[len(earlier) // 2].rows
            self.tables[type_] = table_of(type_, TableVersion(self.epoch, self.seq), rows)
        self._remember()

    def delta(self, type_: ResourceType, version: int) -> Delta | None:
        old = self.past.get((type_, TableVersion(self.epoch, version)))
        return None if old is None else diff(old, self.tables[type_])

    def holdings(self) -> dict[ResourceType, Holding]:
        return {one: Holding(table.at, table.digest) for one, table in self.tables.items()}

    def _remember(self) -> None:
        for type_, table in self.tables.items():
            self.past[type_, table.at] = table


class Agent:
    """Keeps tables by the rules that real agents keep; its disk may lag behind its memory."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tables = {one: empty_table(one) for one in TYPES}
        self.disk = dict(self.tables)

    def restart(self) -> None:
        self.tables = dict(self.disk)

    def save(self) -> None:
        self.disk = dict(self.tables)


@dataclass
class Link:
    """One stream, a session at one end and an agent at the other, until it is replaced."""

    agent: Agent
    session: PushSession
    #: Un-acknowledged pushes by type: the law says at most one.
    unanswered: dict[ResourceType, int]


class World:
    """Runs until the heap is empty or time is up."""

    def __init__(self, seed: int, agents: int = 3, chances: Chances | None = None) -> None:
        self.random = random.Random(seed)
        self.chances = chances or Chances()
        self.now_ms = 0.0
        self.source = Source()
        self.agents = [Agent(f"n-{index}") for index in range(agents)]
        self.links: dict[str, Link] = {}
        self.alarms: list[Alarm] = []
        self.pushes = 0
        #: Stands for the operator who answers a refused table with force.
        self.forces_refused_tables = False
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        for agent in self.agents:
            self.connect(agent)

    def at(self, delay_ms: float, do: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._serial, do))

    def run(self, duration_ms: float) -> None:
        """Let ``duration_ms`` pass."""
        end_ms = self.now_ms + duration_ms
        while self._heap and self._heap[0][0] <= end_ms:
            self.now_ms, _, do = heapq.heappop(self._heap)
            do()
        self.now_ms = end_ms

    # The fleet.

    def connect(self, agent: Agent) -> None:
        session = PushSession(self.source.holdings(), push_timeout_ms=PUSH_TIMEOUT_MS)
        link = self.links[agent.name] = Link(agent, session, {})
        have = {one: Holding(table.at, table.digest) for one, table in agent.tables.items()}
        self._tick(link)
        self.at(self._delay_ms(), lambda: self._handle(link, HelloReceived(have)))

    def disconnect(self, agent: Agent) -> None:
        """Break the stream; the agent comes back after a while."""
        if self.links.pop(agent.name, None) is not None:
            self.at(self.random.uniform(10, 1_000), lambda: self._reconnect(agent))

    def restart_coordinator(self) -> None:
        for agent in self.agents:
            self.disconnect(agent)

    def table_changed(self, type_: ResourceType) -> None:
        """Notify all sessions, in the next round."""
        self.at(self.random.choice([0.0, 50.0, 300.0]), lambda: self._tell(type_))

    def force(self, type_: ResourceType) -> None:
        for link in list(self.links.values()):
            self._handle(link, Forced(type_))

    def converged(self) -> bool:
        """Whether every agent holds what the source holds."""
        return all(
            agent.tables[one].at == self.source.tables[one].at
            and agent.tables[one].rows == self.source.tables[one].rows
            and agent.tables[one].digest == self.source.tables[one].digest
            for agent in self.agents
            for one in TYPES
        )

    # The stream.

    def _tell(self, type_: ResourceType) -> None:
        table = self.source.tables[type_]
        for link in list(self.links.values()):
            self._handle(link, TableChanged(type_, Holding(table.at, table.digest)))

    def _reconnect(self, agent: Agent) -> None:
        if agent.name not in self.links:
            self.connect(agent)

    def _alive(self, link: Link) -> bool:
        return self.links.get(link.agent.name) is link

    def _tick(self, link: Link) -> None:
        if self._alive(link):
            self._handle(link, Ticked())
            self.at(500.0, lambda: self._tick(link))

    def _handle(self, link: Link, event: object) -> None:
        if not self._alive(link):
            return
        match event:
            case Acked(type_, nonce, _) | Nacked(type_, nonce, _, _, _):
                if link.unanswered.get(type_) == nonce:
                    del link.unanswered[type_]
        for command in link.session.handle(event, self.now_ms):  # type: ignore[arg-type]
            self._perform(link, command)

    def _perform(self, link: Link, command: Command) -> None:
        match command:
            case SendSnapshot(type_, nonce, forced):
                self._order(link, type_, nonce, None, forced)
            case SendDelta(type_, nonce, version):
                self._order(link, type_, nonce, version, False)
            case Alarm(_, type_, _):
                self.alarms.append(command)
                if self.forces_refused_tables:
                    self.at(50.0, lambda: self.force(type_))
            case Disconnect():
                self.disconnect(link.agent)

    def _order(
        self, link: Link, type_: ResourceType, nonce: int, version: int | None, forced: bool
    ) -> None:
        """Check the law, then wait for one of the few places in which pushes are made."""
        assert type_ not in link.unanswered, f"two pushes of {type_} under way"
        link.unanswered[type_] = nonce
        self.at(
            self.random.choice([0.0, 0.0, 200.0]),
            lambda: self._send(link, type_, nonce, version, forced),
        )

    def _send(
        self, link: Link, type_: ResourceType, nonce: int, version: int | None, forced: bool
    ) -> None:
        """Make the push of what the table is by now, and lose, damage or deliver it."""
        if not self._alive(link):
            return
        self.pushes += 1
        table = self.source.tables[type_]
        push: Push | None = None
        if version is not None and self.random.random() >= self.chances.compacted:
            push = self.source.delta(type_, version)
        if push is None:
            push = Snapshot(type_, table.at, table.rows, table.digest, forced)
        self._handle(link, TableChanged(type_, Holding(table.at, None)))
        self._handle(link, Pushed(type_, nonce, table.at))
        if self.random.random() < self.chances.corrupt:
            push = self._damaged(push)
        self._deliver(lambda: self._receive(link, push, nonce))

    def _damaged(self, push: Push) -> Push:
        if isinstance(push, Snapshot):
            return replace(push, digest=push.digest ^ 1)
        if self.random.random() < 0.5:
            return replace(push, from_version=push.from_version + 1)
        return replace(push, result_digest=push.result_digest ^ 1)

    def _receive(self, link: Link, push: Push, nonce: int) -> None:
        """The agent's side."""
        if not self._alive(link):
            return
        agent, type_ = link.agent, push.type
        table = agent.tables[type_]
        try:
            if self.random.random() < self.chances.refuse:
                reason = self.random.choice([RefusalReason.TOO_LARGE, RefusalReason.MALFORMED])
                raise TableRefused(reason, "by chance")
            table = agent.tables[type_] = apply(table, push)
        except TableRefused as refused:
            have = Holding(table.at, table.digest)
            answer: object = Nacked(type_, nonce, refused.reason, refused.detail, have)
        else:
            answer = Acked(type_, nonce, table.at)
        self._deliver(lambda: self._handle(link, answer))

    def _deliver(self, do: Callable[[], None]) -> None:
        """Deliver each message late, twice, out of order, or not at all."""
        if self.random.random() < self.chances.loss:
            return
        self.at(self._delay_ms(), do)
        if self.random.random() < self.chances.duplicate:
            self.at(self._delay_ms(), do)

    def _delay_ms(self) -> float:
        return self.random.uniform(1.0, 200.0)
