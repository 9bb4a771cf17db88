"""One agent's stream: performs the push machine's commands and sends beats, queries and GoAway.

What waits to be written is bounded: one push for each type, one beat, the queries in progress,
one GoAway.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core.push_session import (
    Alarm,
    Command,
    Disconnect,
    Event,
    Holding,
    Pushed,
    PushSession,
    SendDelta,
    SendSnapshot,
    TableChanged,
    Ticked,
)
from coordinator.core.twins import Caller
from coordinator.fleet.stream_bytes import go_away_bytes
from protos.domain.errors import DeadlineExceeded, EdgeForgeError

if TYPE_CHECKING:
    from coordinator.core.fleet_figures import FleetCounters
    from coordinator.fleet.push_bytes import PushEncoder
    from protos.domain.resources import ResourceType

_log = logging.getLogger(__name__)

#: An agent that takes longer than this to read one message is disconnected.
WRITE_TIMEOUT_S = 30.0
SLOWEST_BYTES_PER_S = 128 * 1024
#: Longest wait for GoAway to be written; the stream ends without it after that.
_GO_AWAY_TIMEOUT_S = 2.0

Write = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class SessionParts:
    """The dependencies of every session."""

    encoder: PushEncoder
    #: Pushes made and written at once, over all agents.
    push_slots: asyncio.Semaphore
    counters: FleetCounters
    now_mono_ms: Callable[[], float]
    on_alarm: Callable[[str, Alarm], None]


class AgentSession:
    """One stream from its Hello to its end."""

    def __init__(
        self,
        node_id: str,
        boot_id: str,
        machine: PushSession,
        parts: SessionParts,
        address: str = "unknown",
    ) -> None:
        """``address`` is the IP address that the agent calls from."""
        self.node_id = node_id
        self.boot_id = boot_id
        self.caller = Caller(boot_id, address)
        self.opened_mono_ms = parts.now_mono_ms()
        self._machine = machine
        self._parts = parts
        self._pushes: deque[SendSnapshot | SendDelta] = deque()
        self._queries: deque[bytes] = deque()
        self._beat: bytes | None = None
        self._go_away: bytes | None = None
        self._error: EdgeForgeError | None = None
        self._wake = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether only GoAway remains to be sent."""
        return self._go_away is not None

    @property
    def converged(self) -> bool:
        """Whether the agent has acknowledged every table."""
        return self._machine.converged

    def holding(self, resource_type: ResourceType) -> Holding:
        """Return what the agent has last acknowledged of a table."""
        return self._machine.holding(resource_type)

    def handle(self, event: Event) -> None:
        """Pass ``event`` to the push machine and queue its commands."""
        for command in self._machine.handle(event, self._parts.now_mono_ms()):
            self._queue(command)

    def tick(self) -> None:
        """Time out a push that has waited too long for its answer."""
        deadline_mono_ms = self._machine.next_deadline_ms()
        if deadline_mono_ms is not None and deadline_mono_ms <= self._parts.now_mono_ms():
            self.handle(Ticked())

    def send_beat(self, data: bytes) -> None:
        """Send ``data`` next; an unsent earlier beat is replaced."""
        self._beat = data
        self._wake.set()

    def send_query(self, data: bytes) -> None:
        """Send a Query. ``AgentQueries`` limits their number, which bounds this queue."""
        self._queries.append(data)
        self._wake.set()

    def end(
        self, reason: str, *, retry_after_ms: int = 0, error: EdgeForgeError | None = None
    ) -> None:
        """Send GoAway and end the stream, with ``error`` if given. Later calls are ignored."""
        if not self.ended:
            self._go_away = go_away_bytes(reason, retry_after_ms)
            self._error = error
            self._wake.set()

    async def write_all(self, write: Write) -> None:
        """Write all messages until the stream ends. Raises: the error passed to ``end``."""
        while self._go_away is None:
            await self._wake.wait()
            self._wake.clear()
            while await self._write_next(write):
                pass
        try:
            async with asyncio.timeout(_GO_AWAY_TIMEOUT_S):
                await write(self._go_away)
        except TimeoutError:
            _log.info("agent does not read its go_away node=%s", self.node_id)
        if self._error is not None:
            raise self._error

    async def _write_next(self, write: Write) -> bool:
        """Write one message, small ones first; return whether there was one."""
        if self.ended:
            return False
        if self._beat is not None:
            data, self._beat = self._beat, None
            await self._write(write, data)
        elif self._queries:
            await self._write(write, self._queries.popleft())
        elif self._pushes:
            await self._write_push(write, self._pushes.popleft())
        else:
            return False
        return True

    async def _write_push(self, write: Write, command: SendSnapshot | SendDelta) -> None:
        encoder, counters = self._parts.encoder, self._parts.counters
        async with self._parts.push_slots:
            scope = encoder.scope(command.type, self.node_id)
            if isinstance(command, SendSnapshot):
                push = await encoder.snapshot(
                    command.type, scope, command.nonce, forced=command.forced
                )
            else:
                push = await encoder.delta(command.type, scope, command.from_version, command.nonce)
            # The version written may be newer than the command's; the answer may come at once.
            self.handle(TableChanged(command.type, Holding(push.at, None)))
            await self._write(write, push.data)
        counters.push_bytes += len(push.data)
        if push.is_delta:
            counters.deltas_sent += 1
        else:
            counters.snapshots_sent += 1
        self.handle(Pushed(command.type, command.nonce, push.at))

    async def _write(self, write: Write, data: bytes) -> None:
        timeout_s = WRITE_TIMEOUT_S + len(data) / SLOWEST_BYTES_PER_S
        try:
            async with asyncio.timeout(timeout_s):
                await write(data)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the agent did not take {len(data)} bytes off its stream in {timeout_s:.0f} s"
            ) from None

    def _queue(self, command: Command) -> None:
        match command:
            case SendSnapshot() | SendDelta():
                self._pushes.append(command)
                self._wake.set()
            case Alarm():
                self._parts.on_alarm(self.node_id, command)
            case Disconnect(reason):
                self._parts.counters.push_timeouts += 1
                self.end(reason, error=DeadlineExceeded(reason))
