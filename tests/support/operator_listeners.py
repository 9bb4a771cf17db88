"""Administration and enrolment over real TLS on this machine, and callers of every kind."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio

from coordinator.blobs.folder import FolderStore
from coordinator.ca.authority import CertificateAuthority
from coordinator.core.operators import Operator, Role
from coordinator.core.price_card import first_card
from coordinator.fleet.desired_rows import DesiredRows
from coordinator.fleet.memory import FleetMemory
from coordinator.fleet.peer_dialer import PeerDialer
from coordinator.fleet.placement_writer import PlacementWriter
from coordinator.operations.node_certificates import NodeCertificates
from coordinator.operations.operations import make_operations
from coordinator.operations.operator_certificates import OperatorCertificates
from coordinator.operations.refusals import RefusalRecorder
from coordinator.operations.use_case import OperationsParts
from coordinator.rpc.admin import AdminService
from coordinator.rpc.admin_registry import RegistryService
from coordinator.rpc.agent_questions import AgentQuestions
from coordinator.rpc.enrolment import AdminListener, EnrolmentLimits, EnrolmentService
from coordinator.rpc.identity import IdentityKind
from coordinator.rpc.interceptors import ErrorInterceptor, IdentityInterceptor
from coordinator.rpc.listeners import make_server
from coordinator.rpc.operator_rows import UNKNOWN_HINT, OperatorRows
from coordinator.rpc.running_calls import RunningCalls
from coordinator.rpc.server_credentials import ServerCredentials
from coordinator.store import audit, operators, prices
from coordinator.usage.database import UsageDatabase
from coordinator.usage.exports import UsageExports
from coordinator.usage.ingest import Ingest
from protos.v1 import admin_pb2_grpc, enrolment_pb2_grpc, fleet_pb2, registry_pb2_grpc
from protos.wire.errors import error_from_metadata
from tests.support.billing_service import billing_of
from tests.support.certificates import p256_key, private_pem, request_der
from tests.support.stores import START_UNIX_MS, SetClock

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from coordinator.ca.certificates import IssuedCertificate
    from coordinator.fleet.live import LiveNode
    from coordinator.store.store import Store
    from protos.domain.errors import EdgeForgeError
    from protos.domain.resources import ResourceType

Answering = Callable[[fleet_pb2.Query], fleet_pb2.Answer]

COORDINATOR_NAME = "coordinator.edgeforge.internal"
ADMIN_ADDRESS = "coordinator.example:7402"
FLEET_ADDRESS = "coordinator.example:7401"
ENROLMENT_ADDRESS = "coordinator.example:7403"


@dataclass(slots=True)
class LiveFleetDouble:
    """A fleet of agents that answer as a test sets."""

    nodes: dict[str, LiveNode] = field(default_factory=dict)
    #: By node: the answer to every query, or a function that makes the answer.
    answers: dict[str, fleet_pb2.Answer | Answering] = field(default_factory=dict)
    asked: list[tuple[str, fleet_pb2.Query]] = field(default_factory=list)
    forced: list[ResourceType] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
    ordered: list[str] = field(default_factory=list)

    def live_node(self, node_id: str) -> LiveNode | None:
        return self.nodes.get(node_id)

    async def ask(self, node_id: str, query: fleet_pb2.Query) -> fleet_pb2.Answer:
        self.asked.append((node_id, query))
        answer = self.answers[node_id]
        return answer if isinstance(answer, fleet_pb2.Answer) else answer(query)

    async def force_table(self, resource_type: ResourceType) -> int:
        self.forced.append(resource_type)
        return len(self.nodes)


@dataclass(slots=True)
class Listeners:
    """What a test needs of the running listeners."""

    store: Store
    authority: CertificateAuthority
    blobs: FolderStore
    live: LiveFleetDouble
    clock: SetClock
    mono_ms: SetClock
    admin_port: int
    enrolment_port: int

    #: Key and certificate of an admin.
    ana: tuple[bytes, bytes] = (b"", b"")

    async def admit(self, name: str, role: Role) -> tuple[bytes, bytes]:
        """Give the store an operator, and return its key and certificate."""
        key_pem, issued = self.authority.new_operator(name)
        await self.store.write(operators.put(operator(name, role, issued)))
        return key_pem, issued.pem

    def operator_channel(self) -> aio.Channel:
        """Connect to administration as an admin of this fleet."""
        return self.channel(self.admin_port, *self.ana)

    def node_channel(self, node_id: str) -> aio.Channel:
        """Connect to administration with a node's certificate."""
        key = p256_key()
        issued = self.authority.issue_node(node_id, request_der(key))
        return self.channel(self.admin_port, private_pem(key), issued.pem)

    def channel(
        self, port: int, key_pem: bytes | None = None, certificate_pem: bytes | None = None
    ) -> aio.Channel:
        """Connect with any certificate, or none."""
        credentials = grpc.ssl_channel_credentials(
            self.authority.bundle_pem, key_pem, certificate_pem
        )
        options = [("grpc.ssl_target_name_override", COORDINATOR_NAME)]
        return aio.secure_channel(f"127.0.0.1:{port}", credentials, options)


def operator(name: str, role: Role, issued: IssuedCertificate) -> Operator:
    """Return the row of an operator who holds the key of a certificate."""
    return Operator(
        name=name,
        role=role,
        created_unix_ms=START_UNIX_MS,
        invited_by="coordinator",
        public_key_sha256=issued.public_key_sha256,
        certificate_serial=issued.serial,
        certificate_not_after_unix_ms=issued.not_after_unix_ms,
    )


@contextlib.asynccontextmanager
async def listening(
    folder: Path, store: Store, clock: SetClock, limits: EnrolmentLimits | None = None
) -> AsyncIterator[Listeners]:
    """Run both listeners on free ports."""
    await store.write(prices.begin(first_card("coordinator", clock())))
    authority = CertificateAuthority.create(folder / "ca", now_unix_ms=clock)
    blobs = FolderStore.open(folder / "blobs", max_blob_bytes=5_000_000)
    usage_db = await UsageDatabase.open(folder / "usage.db", clock)
    live, mono_ms, memory = LiveFleetDouble(), SetClock(0), FleetMemory()
    questions = AgentQuestions(live.ask)
    certificates = OperatorCertificates(store, authority, clock)
    rows, calls = OperatorRows(store), RunningCalls()
    parts = OperationsParts(
        store=store,
        blobs=blobs,
        refusals=RefusalRecorder(store, lambda: float(mono_ms())),
        live=live,
        agents=questions,
        dials=PeerDialer(
            store,
            connected=lambda: list(live.nodes),
            dial=questions.dial,
            now_mono_ms=lambda: float(mono_ms()),
        ),
        force_table=live.force_table,
        ca_sha256_hex=authority.sha256_hex,
        enrolment_address=ENROLMENT_ADDRESS,
        admin_address=ADMIN_ADDRESS,
        loopback_listeners=(),
        operator_certificates=certificates,
        on_resumed=live.resumed.append,
        on_ordered=live.ordered.append,
        plan=PlacementWriter(
            store,
            DesiredRows(store, memory),
            memory,
            now_mono_ms=lambda: float(mono_ms()),
            now_unix_ms=clock,
        ),
        on_plan_changed=lambda: None,
        on_operator_changed=calls.end,
        now_unix_ms=clock,
        usage_db=usage_db,
        ingest=Ingest(usage_db),
        billing=billing_of(usage_db, store, clock),
        usage_exports=UsageExports(usage_db, blobs),
    )
    operators = IdentityInterceptor(
        {IdentityKind.OPERATOR},
        audit=lambda note: store.write(audit.append(note)),
        now_mono_ms=lambda: float(mono_ms()),
        is_known=rows.is_known,
        unknown_hint=UNKNOWN_HINT,
        calls=calls,
    )
    enrolment = EnrolmentService(
        store=store,
        certificates=NodeCertificates(store, authority, clock),
        operators=certificates,
        fleet_address=FLEET_ADDRESS,
        admin=AdminListener(ADMIN_ADDRESS, on_loopback=False),
        now_mono_ms=lambda: float(mono_ms()),
        limits=limits,
    )
    credentials = ServerCredentials(authority, "coordinator", clock)
    admin_server = make_server(
        [ErrorInterceptor(), operators], max_calls=100, max_message_bytes=8_000_000
    )
    operations = make_operations(parts)
    admin_pb2_grpc.add_AdminServicer_to_server(AdminService(operations, rows.role_of), admin_server)
    registry_pb2_grpc.add_RegistryServicer_to_server(
        RegistryService(operations, rows.role_of), admin_server
    )
    enrolment_server = make_server([ErrorInterceptor()], max_calls=100, max_message_bytes=16_384)
    enrolment_pb2_grpc.add_EnrolmentServicer_to_server(enrolment, enrolment_server)
    ports = [
        admin_server.add_secure_port("127.0.0.1:0", credentials.mutual()),
        enrolment_server.add_secure_port("127.0.0.1:0", credentials.server_only()),
    ]
    for server in (admin_server, enrolment_server):
        await server.start()
    try:
        listeners = Listeners(store, authority, blobs, live, clock, mono_ms, *ports)
        listeners.ana = await listeners.admit("ana", Role.ADMIN)
        yield listeners
    finally:
        for server in (admin_server, enrolment_server):
            await server.stop(0)
        await usage_db.close()


async def failure_of(call: Any) -> EdgeForgeError:
    """Return the error that a call ends with, as EdgeForge's client reads it."""
    try:
        await call
    except aio.AioRpcError as error:
        metadata = [(key, value) for key, value in error.trailing_metadata() or ()]
        return error_from_metadata(error.code().name, error.details() or "", metadata)
    raise AssertionError("the call succeeded")


def enrol_request_parts(token: str, key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    """Return the fields of an EnrolRequest for a token as an operator hands it over."""
    _, _, token_id, secret = token.split(".")
    return {"token_id": token_id, "secret": secret, "csr_der": request_der(key)}
