"""The fleet stream: receives tables and queries, sends Hello and Status, and reconnects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpc import aio

from agent.core.backoff import BackoffPolicy, full_jitter_ms
from agent.link.errors import rpc_error
from agent.link.status import CoordinatorClock, CredentialsAge, LinkStatus
from agent.tasks import Background
from protos.domain.errors import NODE_REMOVED, EdgeForgeError, Forbidden, LinkDown, Unauthenticated
from protos.domain.resources import ResourceType
from protos.domain.routing_table import Push, TableRefused
from protos.v1 import fleet_pb2, fleet_pb2_grpc
from protos.wire import (
    delta_from_wire_steps,
    have_to_wire,
    refusal_to_wire,
    resource_type_to_wire,
    snapshot_from_wire_steps,
)

if TYPE_CHECKING:
    from agent.link.tables import TableKeeper

_log = logging.getLogger(__name__)

#: Most messages that wait to be sent; a status over it is dropped.
_MAX_OUTGOING = 256
_MAX_QUERIES = 16
#: A stream without any message for this long, beats included, is dead.
_SILENCE_S = 15.0
#: After a stream that lasted this long, the back-off starts anew.
_HEALTHY_MS = 10_000.0
_SHORTEST_PAUSE_MS = 50.0
#: Doublings added to the back-off while the coordinator refuses this node.
_SLOWER_WHEN_REFUSED = 4
_MAX_ERROR_CHARS = 500

#: The type of a Connect call.
Call = aio.StreamStreamCall[fleet_pb2.AgentMessage, fleet_pb2.CoordinatorMessage]


@dataclass(frozen=True, slots=True)
class LinkCallbacks:
    """What the link gets from ``agent.main``."""

    make_channel: Callable[[], aio.Channel]
    make_hello: Callable[[], fleet_pb2.Hello]
    make_status: Callable[[], fleet_pb2.Status]
    answer: Callable[[fleet_pb2.Query], Awaitable[fleet_pb2.Answer]]
    now_mono_ms: Callable[[], float]
    now_unix_ms: Callable[[], int]
    draw: Callable[[], float]
    #: The coordinator has said, over the fleet's TLS, that this node is removed; why.
    on_removed: Callable[[str], None] = lambda reason: None
    #: The coordinator has accepted this node's Hello.
    on_admitted: Callable[[], None] = lambda: None


class FleetLink:
    """Maintains one stream to the coordinator. Requests never wait for it."""

    def __init__(
        self,
        callbacks: LinkCallbacks,
        tables: TableKeeper,
        credentials: CredentialsAge,
        *,
        status_interval_ms: float,
        reconnect: BackoffPolicy,
    ) -> None:
        self._callbacks = callbacks
        self._tables = tables
        self._credentials = credentials
        self._status_interval_ms = status_interval_ms
        self._reconnect = reconnect
        self._outgoing: asyncio.Queue[fleet_pb2.AgentMessage] = asyncio.Queue(_MAX_OUTGOING)
        self._status_seq = 0
        self._retry_after_ms: float | None = None
        self._status_due = asyncio.Event()
        self.status = LinkStatus()
        self.clock = CoordinatorClock(callbacks.now_unix_ms, callbacks.now_mono_ms)

    def report_soon(self) -> None:
        """Send a status now instead of at the next interval."""
        self._status_due.set()

    async def run(self) -> None:
        """Connect and reconnect until cancelled."""
        while True:
            began = self._callbacks.now_mono_ms()
            self._retry_after_ms = None
            error = await self._session()
            healthy = self._callbacks.now_mono_ms() - began > _HEALTHY_MS
            self._note_loss(error, healthy=healthy)
            await asyncio.sleep(self._pause_ms() / 1_000)

    def _pause_ms(self) -> float:
        if self._retry_after_ms is not None:
            return self._retry_after_ms
        failures = self.status.failures_in_a_row
        if self.status.refused:
            failures += _SLOWER_WHEN_REFUSED
        pause_ms = full_jitter_ms(self._reconnect, failures, self._callbacks.draw())
        return max(pause_ms, _SHORTEST_PAUSE_MS)

    def _note_loss(self, error: EdgeForgeError, *, healthy: bool) -> None:
        status = self.status
        status.connected = False
        status.since_mono_ms = self._callbacks.now_mono_ms()
        status.failures_in_a_row = 1 if healthy else status.failures_in_a_row + 1
        status.refused = str(error) if isinstance(error, (Forbidden, Unauthenticated)) else ""
        if self._retry_after_ms is None and error.retry_after_s is not None:
            self._retry_after_ms = min(error.retry_after_s * 1_000, self._reconnect.cap_ms)
        if isinstance(error, Forbidden) and error.code == NODE_REMOVED:
            self._callbacks.on_removed(error.message)
        elif str(error) != status.last_error or healthy:
            _log.warning("link to the coordinator lost, clients are still served reason=%s", error)
        status.last_error = str(error)

    async def _session(self) -> EdgeForgeError:
        """Run one stream to its end, and return the reason."""
        self._outgoing = asyncio.Queue(_MAX_OUTGOING)
        tasks = Background(max_tasks=_MAX_QUERIES + 2)
        try:
            async with self._callbacks.make_channel() as channel:
                call = fleet_pb2_grpc.FleetStub(channel).Connect()
                try:
                    await call.write(fleet_pb2.AgentMessage(hello=self._callbacks.make_hello()))
                    tasks.spawn(self._write(call), name="link-write")
                    tasks.spawn(self._report(), name="link-report")
                    await self._read(call, tasks)
                finally:
                    await tasks.close()
                    call.cancel()
        except aio.AioRpcError as error:
            return rpc_error(error)
        except TimeoutError:
            return LinkDown(f"nothing came from the coordinator for {_SILENCE_S:.0f} s")
        except EdgeForgeError as error:
            return error
        return LinkDown("the coordinator ended the stream")

    async def _read(self, call: Call, tasks: Background) -> None:
        while True:
            message = await asyncio.wait_for(call.read(), _SILENCE_S)
            if not isinstance(message, fleet_pb2.CoordinatorMessage):
                return  # the end of the stream
            if not self.status.connected:
                self._note_connected()
            match message.WhichOneof("message"):
                case "snapshot":
                    steps = snapshot_from_wire_steps(message.snapshot)
                    await self._apply(await self._tables.in_slices(steps), message.snapshot.nonce)
                case "delta":
                    change = delta_from_wire_steps(message.delta)
                    await self._apply(await self._tables.in_slices(change), message.delta.nonce)
                case "beat":
                    self.clock.heard(message.beat.unix_ms)
                    self.status.clock_offset_ms = self.clock.offset_ms()
                    self._credentials.confirm()
                case "query":
                    self._answer_later(message.query, tasks)
                case "go_away":
                    self._retry_after_ms = float(message.go_away.retry_after_ms)
                    _log.info(
                        "coordinator asked this agent to reconnect later reason=%s",
                        message.go_away.reason,
                    )
                    return

    def _note_connected(self) -> None:
        status = self.status
        status.connected, status.refused = True, ""
        status.connects += 1
        status.since_mono_ms = self._callbacks.now_mono_ms()
        _log.info("link to the coordinator established connects=%d", status.connects)
        self._callbacks.on_admitted()

    async def _apply(self, push: Push, nonce: int) -> None:
        kind = resource_type_to_wire(push.type)
        try:
            table = await self._tables.apply(push)
        except TableRefused as refused:
            nack = fleet_pb2.Nack(
                nonce=nonce,
                type=kind,
                reason=refusal_to_wire(refused.reason),
                error=refused.detail[:_MAX_ERROR_CHARS],
                have=have_to_wire(self._tables.tables[push.type]),
            )
            await self._outgoing.put(fleet_pb2.AgentMessage(nack=nack))
            return
        if push.type is ResourceType.CREDENTIALS:
            self._credentials.confirm()
        ack = fleet_pb2.Ack(nonce=nonce, type=kind, epoch=table.at.epoch, version=table.at.version)
        await self._outgoing.put(fleet_pb2.AgentMessage(ack=ack))

    def _answer_later(self, query: fleet_pb2.Query, tasks: Background) -> None:
        try:
            tasks.spawn(self._answer(query), name=f"query-{query.id}")
        except RuntimeError:
            busy = fleet_pb2.Answer(id=query.id, error="too many questions at once")
            self._send_nowait(fleet_pb2.AgentMessage(answer=busy))

    async def _answer(self, query: fleet_pb2.Query) -> None:
        try:
            async with asyncio.timeout(max(query.timeout_ms, 1) / 1_000):
                answer = await self._callbacks.answer(query)
        except TimeoutError:
            answer = fleet_pb2.Answer(error="no answer in time")
        except EdgeForgeError as error:
            answer = fleet_pb2.Answer(error=str(error))
        answer.id = query.id
        await self._outgoing.put(fleet_pb2.AgentMessage(answer=answer))

    async def _write(self, call: Call) -> None:
        while True:
            message = await self._outgoing.get()
            try:
                await call.write(message)
            except (aio.AioRpcError, asyncio.InvalidStateError):
                return  # the reader gets the reason

    async def _report(self) -> None:
        while True:
            self._status_due.clear()
            self._status_seq += 1
            status = self._callbacks.make_status()
            status.seq = self._status_seq
            self._send_nowait(fleet_pb2.AgentMessage(status=status))
            try:
                async with asyncio.timeout(self._status_interval_ms / 1_000):
                    await self._status_due.wait()
            except TimeoutError:
                continue

    def _send_nowait(self, message: fleet_pb2.AgentMessage) -> None:
        try:
            self._outgoing.put_nowait(message)
        except asyncio.QueueFull:
            _log.debug("message to the coordinator dropped: the link is slow")


def have_of(tables: TableKeeper) -> list[fleet_pb2.Have]:
    """Return the version of each table that this agent holds."""
    return [have_to_wire(tables.tables[kind]) for kind in ResourceType]
