"""An agent's side of the fleet stream, over real TLS, that a test can make misbehave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
from grpc import aio

from protos.domain.resources import Resource, ResourceType
from protos.domain.routing_table import (
    RefusalReason,
    Table,
    TableRefused,
    apply,
    empty_table,
)
from protos.v1 import fleet_pb2, resources_pb2
from protos.v1.fleet_pb2_grpc import FleetStub
from protos.wire import (
    SCHEMA,
    decode_row,
    delta_from_wire,
    have_to_wire,
    refusal_to_wire,
    resource_type_to_wire,
    snapshot_from_wire,
)

if TYPE_CHECKING:
    from tests.support.coordinator_process import CoordinatorProcess


REPORT_INTERVAL_S = 0.1
COORDINATOR_NAME = "coordinator.edgeforge.internal"


def coordinator_options() -> list[tuple[str, object]]:
    """Return channel options that check the coordinator by its certificate's name."""
    return [
        ("grpc.ssl_target_name_override", COORDINATOR_NAME),
        ("grpc.max_receive_message_length", 64 * 1024 * 1024),
        # Each channel connects anew, as another host would.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    ]


@dataclass(frozen=True)
class NodeIdentity:
    """What an enrolled node keeps."""

    node_id: str
    key_pem: bytes
    certificate_pem: bytes
    ca_pem: bytes


@dataclass
class Received:
    """The messages received on the stream, in order."""

    snapshots: list[ResourceType] = field(default_factory=list)
    deltas: list[ResourceType] = field(default_factory=list)
    forced: list[ResourceType] = field(default_factory=list)
    beats: int = 0
    go_away: fleet_pb2.GoAway | None = None
    queries: list[fleet_pb2.Query] = field(default_factory=list)


class ScriptedAgent:
    """Applies and acknowledges pushes, unless its script sets otherwise."""

    def __init__(
        self, coordinator: CoordinatorProcess, identity: NodeIdentity, address: str = ""
    ) -> None:
        """``address``: host:port to dial; empty: the coordinator's own."""
        self._address = address or coordinator.address("fleet")
        self.identity = identity
        self.engine_kind = "vllm"
        self.tables: dict[ResourceType, Table] = {one: empty_table(one) for one in ResourceType}
        self.received = Received()
        #: Next pushes of a type to refuse, with which reason, instead of applying them.
        self.refusals: dict[ResourceType, list[RefusalReason]] = {}
        #: Whether pushes are acknowledged at all.
        self.answers = True
        #: The answer to queries; None: no answer.
        self.answer: fleet_pb2.Answer | None = None
        self.error: aio.AioRpcError | None = None
        self.ended = asyncio.Event()
        self._statuses = 0
        self._outbox: asyncio.Queue[fleet_pb2.AgentMessage | None] = asyncio.Queue()
        self._channel: aio.Channel | None = None
        self._reader: asyncio.Task[None] | None = None
        self._reporter: asyncio.Task[None] | None = None
        self._call: object = None

    async def __aenter__(self) -> ScriptedAgent:
        await self.connect()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.disconnect()

    def channel(self) -> aio.Channel:
        """Return a new connection with this node's certificate."""
        one = self.identity
        credentials = grpc.ssl_channel_credentials(one.ca_pem, one.key_pem, one.certificate_pem)
        return aio.secure_channel(self._address, credentials, coordinator_options())

    def hello(self) -> fleet_pb2.Hello:
        """Return its Hello message."""
        return fleet_pb2.Hello(
            node_id=self.identity.node_id,
            boot_id=f"boot-{id(self)}",
            schema=SCHEMA,
            have=[have_to_wire(table) for table in self.tables.values()],
            agent_version="0.1.0",
            peer_host="127.0.0.1",
            peer_port=7443,
            client_url="http://127.0.0.1:8080",
            engine_kind=self.engine_kind,
            profile=resources_pb2.EngineProfile(
                first_token_ms_p99=40, prefill_ms_per_token=0.5, max_parallel=4, tokens_per_s=400
            ),
        )

    async def connect(self, hello: fleet_pb2.Hello | None = None) -> None:
        """Open the stream and send Hello; drop messages of an earlier stream, keep tables."""
        self.forget()
        self.error, self.ended = None, asyncio.Event()
        self._outbox = asyncio.Queue()
        self._channel = self.channel()
        self.send(fleet_pb2.AgentMessage(hello=hello or self.hello()))
        self._reader = asyncio.get_running_loop().create_task(self._read(self._channel))

    async def disconnect(self) -> None:
        """Close the connection."""
        if self._reporter is not None:
            self._reporter.cancel()
            self._reporter = None
        if self._reader is not None:
            self._reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader
            self._reader = None
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    def forget(self) -> None:
        """Count what comes from now on."""
        self.received = Received()

    def send(self, message: fleet_pb2.AgentMessage) -> None:
        """Send a message as it is."""
        self._outbox.put_nowait(message)

    def send_status(self, **fields: object) -> None:
        """Report, with these fields of Status."""
        self._statuses += 1
        status = fleet_pb2.Status(seq=self._statuses, **fields)  # type: ignore[arg-type]
        self.send(fleet_pb2.AgentMessage(status=status))

    def keep_reporting(self, **fields: object) -> None:
        """Report these fields from now on, as often as an agent with fast health does."""
        if self._reporter is not None:
            self._reporter.cancel()
        self._reporter = asyncio.get_running_loop().create_task(self._report(fields))

    async def _report(self, fields: dict[str, object]) -> None:
        while True:
            self.send_status(**fields)
            await asyncio.sleep(REPORT_INTERVAL_S)

    def rows(self, resource_type: ResourceType) -> dict[str, Resource | None]:
        """Return what a table holds, decoded."""
        return {
            key: decode_row(resource_type, row)
            for key, row in self.tables[resource_type].rows.items()
        }

    @property
    def pushes(self) -> int:
        return len(self.received.snapshots) + len(self.received.deltas)

    async def _messages(self) -> AsyncIterator[fleet_pb2.AgentMessage]:
        while (message := await self._outbox.get()) is not None:
            yield message

    async def _read(self, channel: aio.Channel) -> None:
        try:
            # Kept: gRPC cancels a call without a reference to it.
            self._call = FleetStub(channel).Connect(self._messages())
            async for message in self._call:
                self._take(message)
        except aio.AioRpcError as error:
            self.error = error
        finally:
            self.ended.set()

    def _take(self, message: fleet_pb2.CoordinatorMessage) -> None:
        received = self.received
        match message.WhichOneof("message"):
            case "snapshot":
                snapshot = snapshot_from_wire(message.snapshot)
                received.snapshots.append(snapshot.type)
                self._push(snapshot, message.snapshot.nonce)
            case "delta":
                delta = delta_from_wire(message.delta)
                received.deltas.append(delta.type)
                self._push(delta, message.delta.nonce)
            case "beat":
                received.beats += 1
            case "go_away":
                received.go_away = message.go_away
            case "query":
                received.queries.append(message.query)
                if self.answer is not None:
                    answer = fleet_pb2.Answer()
                    answer.CopyFrom(self.answer)
                    answer.id = message.query.id
                    self.send(fleet_pb2.AgentMessage(answer=answer))

    def _push(self, push, nonce: int) -> None:
        if push.forced:
            self.received.forced.append(push.type)
        if not self.answers:
            return
        table = self.tables[push.type]
        try:
            if self.refusals.get(push.type):
                raise TableRefused(self.refusals[push.type].pop(0), "as scripted")
            table = self.tables[push.type] = apply(table, push)
        except TableRefused as refused:
            nack = fleet_pb2.Nack(
                nonce=nonce,
                type=resource_type_to_wire(push.type),
                reason=refusal_to_wire(refused.reason),
                error=refused.detail,
                have=have_to_wire(table),
            )
            self.send(fleet_pb2.AgentMessage(nack=nack))
            return
        ack = fleet_pb2.Ack(
            nonce=nonce,
            type=resource_type_to_wire(push.type),
            epoch=table.at.epoch,
            version=table.at.version,
        )
        self.send(fleet_pb2.AgentMessage(ack=ack))
