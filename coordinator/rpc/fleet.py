"""The fleet service: the stream of each agent, renewal of its certificate, its files.

Every call has a verified certificate; a node may report only for the node that it names.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import grpc

from coordinator.core.push_session import HelloReceived, PushSession
from coordinator.core.rate_limit import RateLimit
from coordinator.fleet.session import AgentSession, SessionParts
from coordinator.rpc.fleet_messages import (
    acked_of,
    agent_message,
    complaints_of,
    condition_of,
    demands_of,
    holdings_of,
    nacked_of,
    printable,
    reachable_of,
    registration_of,
    reports_of,
)
from coordinator.rpc.identity import Identity, peer_address, peer_identity
from coordinator.rpc.report_messages import report_of
from coordinator.store.records import AuditNote
from protos.domain.errors import (
    DeadlineExceeded,
    EdgeForgeError,
    Forbidden,
    InvalidRequest,
    Overloaded,
)
from protos.v1 import fleet_pb2

if TYPE_CHECKING:
    from coordinator.core.fleet_figures import FleetCounters
    from coordinator.fleet.files import FleetFiles
    from coordinator.fleet.peer_dialer import PeerDialer
    from coordinator.fleet.registry import FleetRegistry
    from coordinator.fleet.supervisor import FleetSupervisor
    from coordinator.operations.node_certificates import NodeCertificates
    from coordinator.operations.refusals import RefusalRecorder
    from coordinator.rpc.identity import Context
    from coordinator.store.store import Store

_log = logging.getLogger(__name__)

SERVICE = "edgeforge.v1.Fleet"
#: Renewals of one node; agents renew once a day with jitter.
_RENEWALS_PER_S = 1 / 60.0
_RENEWALS_BURST = 3.0


@dataclass(frozen=True, slots=True)
class FleetLimits:
    """See ``[limits]`` of the configuration."""

    hello_timeout_ms: float = 10_000.0
    push_timeout_ms: float = 60_000.0
    messages_per_s: float = 20.0
    messages_burst: float = 200.0


@dataclass(frozen=True, slots=True)
class FleetParts:
    """The dependencies of the service; ``main`` assembles them."""

    store: Store
    certificates: NodeCertificates
    registry: FleetRegistry
    supervisor: FleetSupervisor
    dialer: PeerDialer
    files: FleetFiles
    sessions: SessionParts
    refusals: RefusalRecorder
    counters: FleetCounters
    now_mono_ms: Callable[[], float]
    now_unix_ms: Callable[[], int]


class FleetService:
    """The fleet service, behind an IdentityInterceptor that admits enrolled nodes only."""

    def __init__(self, parts: FleetParts, limits: FleetLimits) -> None:
        self._parts = parts
        self._limits = limits
        self._renewals = RateLimit(per_s=_RENEWALS_PER_S, burst=_RENEWALS_BURST)

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the gRPC handler; Connect sends bytes, so that a push is serialised only once."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Connect": grpc.stream_stream_rpc_method_handler(self.Connect),
                "Renew": grpc.unary_unary_rpc_method_handler(
                    self.Renew,
                    request_deserializer=fleet_pb2.RenewRequest.FromString,
                    response_serializer=fleet_pb2.RenewResponse.SerializeToString,
                ),
                "Check": grpc.unary_unary_rpc_method_handler(
                    self.Check,
                    request_deserializer=fleet_pb2.CheckRequest.FromString,
                    response_serializer=fleet_pb2.CheckResponse.SerializeToString,
                ),
                "FetchBlob": grpc.unary_stream_rpc_method_handler(
                    self.FetchBlob,
                    request_deserializer=fleet_pb2.FetchBlobRequest.FromString,
                    response_serializer=fleet_pb2.BlobChunk.SerializeToString,
                ),
            },
        )

    async def Connect(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """Keep one agent's tables, until either side ends.

        Raises: Forbidden, InvalidRequest, Overloaded, DeadlineExceeded, LinkDown.
        """
        identity = peer_identity(context)
        try:
            hello = await self._hello(requests)
            session = await self._opened(hello, identity, peer_address(context))
        except EdgeForgeError:
            self._parts.counters.streams_refused += 1
            raise
        _log.info("agent connected node=%s version=%s", session.node_id, hello.agent_version)
        try:
            session.handle(HelloReceived(holdings_of(hello.have)))
            await self._run(session, requests, context)
        finally:
            if self._parts.registry.close(session):
                self._parts.supervisor.gone(session.node_id)
            _log.info("agent disconnected node=%s", session.node_id)

    async def Renew(
        self, request: fleet_pb2.RenewRequest, context: Context
    ) -> fleet_pb2.RenewResponse:
        """Return a new certificate for the calling node. Raises: Overloaded, InvalidRequest."""
        identity = peer_identity(context)
        wait_s = self._renewals.take(identity.name, self._parts.now_mono_ms())
        if wait_s > 0.0:
            raise Overloaded("too many renewals", "once a day is enough", retry_after_s=wait_s)
        granted = await self._parts.certificates.renew(identity.name, request.csr_der)
        return fleet_pb2.RenewResponse(
            certificate_pem=granted.certificate_pem, ca_bundle_pem=granted.ca_bundle_pem
        )

    async def Check(
        self, request: fleet_pb2.CheckRequest, context: Context
    ) -> fleet_pb2.CheckResponse:
        """Return the coordinator's clock and how others see the calling node."""
        node_id = peer_identity(context).name
        response = fleet_pb2.CheckResponse(node_id=node_id, unix_ms=self._parts.now_unix_ms())
        if (node := self._parts.store.view().nodes.get(node_id)) is not None:
            response.peer_host, response.peer_port = node.peer_host, node.peer_port
        if (dial := self._parts.dialer.result(node_id)) is not None:
            response.dialled_by, response.dial_failure = dial.by, dial.failure
        return response

    async def FetchBlob(self, request: fleet_pb2.FetchBlobRequest, context: Context) -> None:
        """Send a part of a file that the calling node may hold; see ``FleetFiles.send``."""

        async def write(chunk: bytes) -> None:
            await context.write(fleet_pb2.BlobChunk(data=chunk))

        node_id = peer_identity(context).name
        await self._parts.files.send(
            node_id,
            request.sha256,
            request.offset_bytes,
            write,
            length_bytes=request.length_bytes,
            piece_list=request.piece_list,
        )

    async def _hello(self, requests: AsyncIterator[bytes]) -> fleet_pb2.Hello:
        """Raises: InvalidRequest, DeadlineExceeded."""
        try:
            async with asyncio.timeout(self._limits.hello_timeout_ms / 1_000):
                message = agent_message(await anext(requests))
        except TimeoutError:
            raise DeadlineExceeded("no Hello came") from None
        except StopAsyncIteration:
            raise InvalidRequest("the stream ended before its Hello") from None
        if message.WhichOneof("message") != "hello":
            raise InvalidRequest("the first message of a stream must be Hello")
        return message.hello

    async def _opened(
        self, hello: fleet_pb2.Hello, identity: Identity, address: str
    ) -> AgentSession:
        """Open the stream if Hello and certificate agree.

        Raises: Forbidden, InvalidRequest, Conflict.
        """
        if hello.node_id != identity.name:
            claimed = printable(hello.node_id, 64)
            note = AuditNote(
                str(identity), "fleet.refused", f"node/{claimed}", "reports for another"
            )
            await self._parts.refusals.record(note)
            raise Forbidden(
                f"{identity} may not report for node {claimed!r}",
                "a node speaks only for itself: check the identity folder of that agent",
            )
        registration = registration_of(hello)
        registry = self._parts.registry
        machine = PushSession(
            registry.tables_of(identity.name), push_timeout_ms=self._limits.push_timeout_ms
        )
        session = AgentSession(identity.name, hello.boot_id, machine, self._parts.sessions, address)
        registry.open(session)
        self._parts.supervisor.hello(registration)
        return session

    async def _run(
        self, session: AgentSession, requests: AsyncIterator[bytes], context: Context
    ) -> None:
        """Read and write until either side ends. Raises: what ended it.

        A write in progress is not cancelled: gRPC could not send the status after it.
        """
        try:
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(self._read_until_end(session, requests))
                try:
                    await session.write_all(context.write)
                finally:
                    reading.cancel()
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None

    async def _read_until_end(self, session: AgentSession, requests: AsyncIterator[bytes]) -> None:
        try:
            await self._read_all(session, requests)
        except EdgeForgeError as error:
            session.end(error.message, error=error)
        else:
            session.end("the agent has closed its stream")

    async def _read_all(self, session: AgentSession, requests: AsyncIterator[bytes]) -> None:
        """Raises: InvalidRequest, Overloaded."""
        bucket = RateLimit(
            per_s=self._limits.messages_per_s, burst=self._limits.messages_burst, max_keys=1
        )
        async for data in requests:
            wait_s = bucket.take("", self._parts.now_mono_ms())
            if wait_s > 0.0:
                _log.warning("agent sends too much node=%s", session.node_id)
                raise Overloaded("too many messages from this agent", retry_after_s=5.0 + wait_s)
            if session.ended:
                return
            if self._dispatch(session, agent_message(data)):
                bucket.give_back("")

    def _dispatch(self, session: AgentSession, message: fleet_pb2.AgentMessage) -> bool:
        """Return whether it answers a question of ours, which does not count as sent by the agent.

        Else whoever asks often enough would have the agent cut off. Raises: InvalidRequest.
        """
        parts = self._parts
        match message.WhichOneof("message"):
            case "status":
                parts.counters.statuses += 1
                status = message.status
                reports, reachable = reports_of(status), reachable_of(status)
                condition, demands = condition_of(status), demands_of(status)
                parts.registry.heard(session, partial(report_of, status), complaints_of(status))
                parts.supervisor.status(session.node_id, reports, reachable, condition)
                parts.supervisor.demand(session.node_id, demands)
            case "ack":
                parts.counters.acks += 1
                session.handle(acked_of(message.ack))
            case "nack":
                self._on_nack(session, message.nack)
            case "answer":
                return parts.registry.answered(session, message.answer)
            case "hello":
                raise InvalidRequest("a stream has one Hello, its first message")
            case None:
                _log.debug("message of a newer agent ignored node=%s", session.node_id)
        return False

    def _on_nack(self, session: AgentSession, message: fleet_pb2.Nack) -> None:
        nacked = nacked_of(message)
        nacks = self._parts.counters.nacks
        nacks[nacked.reason] = nacks.get(nacked.reason, 0) + 1
        _log.warning(
            "push refused node=%s type=%s reason=%s: %s",
            *(session.node_id, nacked.type, nacked.reason, nacked.detail),
        )
        session.handle(nacked)
