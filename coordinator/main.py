"""Assembles, starts and stops the coordinator's parts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator import clock
from coordinator.api.http import HttpListener, HttpParts
from coordinator.api.metrics import make_metrics
from coordinator.blobs.opening import open_blobs
from coordinator.ca.authority import CertificateAuthority
from coordinator.core.failure_detector import DetectorPolicy
from coordinator.core.fleet_figures import FleetCounters, FleetGauges
from coordinator.first_run import check_ports_free
from coordinator.fleet.agent_queries import QueryLimits
from coordinator.fleet.blob_upkeep import make_blob_upkeep
from coordinator.fleet.desired_rows import DesiredRows
from coordinator.fleet.file_holders import FileHolders
from coordinator.fleet.files import FleetFiles
from coordinator.fleet.memory import FleetMemory
from coordinator.fleet.peer_dialer import PeerDialer
from coordinator.fleet.placement_writer import PlacementWriter
from coordinator.fleet.push_bytes import PushEncoder
from coordinator.fleet.registry import FleetRegistry
from coordinator.fleet.session import SessionParts
from coordinator.fleet.supervisor import FleetSupervisor
from coordinator.host_operators import adopt_operators
from coordinator.hub.adoption_watch import AdoptionWatch
from coordinator.hub.assembly import make_hub, make_upstream
from coordinator.native_log import NativeLog
from coordinator.operations.node_certificates import NodeCertificates
from coordinator.operations.operations import Operations, make_operations
from coordinator.operations.operator_certificates import OperatorCertificates
from coordinator.operations.refusals import RefusalRecorder
from coordinator.operations.use_case import OperationsParts
from coordinator.rpc.admin import AdminService
from coordinator.rpc.admin_adoption import AdoptionService
from coordinator.rpc.admin_deploys import DeployService
from coordinator.rpc.admin_registry import RegistryService
from coordinator.rpc.agent_questions import AgentQuestions
from coordinator.rpc.enrolment import MAX_MESSAGE_BYTES, AdminListener, EnrolmentService
from coordinator.rpc.fleet import FleetLimits, FleetParts, FleetService
from coordinator.rpc.identity import IdentityKind
from coordinator.rpc.interceptors import ErrorInterceptor, IdentityInterceptor
from coordinator.rpc.listeners import Server, bind, make_server
from coordinator.rpc.operator_rows import UNKNOWN_HINT, OperatorRows
from coordinator.rpc.running_calls import RunningCalls
from coordinator.rpc.server_credentials import ServerCredentials
from coordinator.store import audit
from coordinator.store.records import AuditNote
from coordinator.store.store import Store
from protos.domain.addresses import join_address
from protos.domain.resources import ResourceType
from protos.host.ownership import require_usable
from protos.v1.admin_pb2_grpc import add_AdminServicer_to_server
from protos.v1.adoption_pb2_grpc import add_AdoptionServicer_to_server
from protos.v1.deploy_pb2_grpc import add_DeploysServicer_to_server
from protos.v1.enrolment_pb2_grpc import add_EnrolmentServicer_to_server
from protos.v1.registry_pb2_grpc import add_RegistryServicer_to_server

if TYPE_CHECKING:
    from coordinator.blobs.interface import BlobStore
    from coordinator.config import CoordinatorConfig

_log = logging.getLogger(__name__)

#: Calls that the fleet listener admits beside streams and files: renewals, refused streams.
_SPARE_FLEET_CALLS = 256
_SHARED_TYPES = tuple(one for one in ResourceType if one is not ResourceType.DESIRED)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The parts of the fleet service."""

    registry: FleetRegistry
    supervisor: FleetSupervisor
    placement: PlacementWriter
    dialer: PeerDialer
    questions: AgentQuestions
    service: FleetService
    refusals: RefusalRecorder
    counters: FleetCounters


async def serve(
    config: CoordinatorConfig, stop: asyncio.Event, on_ready: Callable[[], None]
) -> None:
    """Run a coordinator until ``stop`` is set.

    Raises: ConfigInvalid (a port in use, state of another user, a readable key), NotFound before
    `init`, Conflict when another process runs it, StoreUnavailable.
    """
    require_usable(config.state_dir, leave_out=config.operators_dir.name)
    check_ports_free(config)
    authority = CertificateAuthority.load(config.ca_dir, now_unix_ms=clock.now_unix_ms)
    async with _opened_store(config) as store:
        await adopt_operators(config, store, authority, clock.now_unix_ms)
        blobs = await open_blobs(config, clock.now_unix_ms)
        fleet = make_fleet(config, store, authority, blobs)
        store.on_change(fleet.registry.table_changed)
        store.on_change(fleet.supervisor.table_changed)
        credentials = ServerCredentials(authority, config.coordinator.name, clock.now_unix_ms)
        operator_certificates = OperatorCertificates(store, authority, clock.now_unix_ms)
        calls = RunningCalls()
        operations = _make_operations(
            config, store, authority.sha256_hex, blobs, fleet, operator_certificates, calls
        )
        servers = _make_servers(
            config, store, authority, credentials, fleet, operations, operator_certificates, calls
        )
        watch = AdoptionWatch(operations, poll_s=config.upstream.poll_s)
        hub = make_hub(config, store, authority, operations, blobs)
        replan = fleet.supervisor.plan_again
        upkeep = make_blob_upkeep(
            store, blobs, config.blobs, fleet.counters, clock.now_unix_ms, replan
        )
        stopping = asyncio.Event()
        http = _make_http(config, store, fleet, stopping)
        native = _watch_handshakes(fleet)
        try:
            for server in servers:
                await server.start()
            await http.start()
            if hub is not None:
                await hub.start()
            async with asyncio.TaskGroup() as group:
                running = [
                    group.create_task(fleet.registry.beat(), name="beat"),
                    group.create_task(fleet.registry.push_rounds(), name="push-rounds"),
                    group.create_task(fleet.supervisor.run(), name="supervisor"),
                    group.create_task(fleet.dialer.run(), name="peer-dials"),
                    group.create_task(credentials.run(), name="server-certificate"),
                    *upkeep.start(group),
                    group.create_task(watch.run(), name="adoption"),
                ]
                _log.info("coordinator ready epoch=%d state_dir=%s", store.epoch, config.state_dir)
                on_ready()
                await stop.wait()
                _log.info("coordinator stopping")
                stopping.set()
                fleet.registry.stop()
                grace_s = config.limits.stop_grace_ms / 1_000
                await asyncio.gather(*(server.stop(grace_s) for server in servers))
                for task in running:
                    task.cancel()
        finally:
            await asyncio.gather(*(server.stop(0) for server in servers))
            await http.close()
            if hub is not None:
                await hub.close()
            native.close()
    _log.info("coordinator stopped")


def make_fleet(
    config: CoordinatorConfig, store: Store, authority: CertificateAuthority, blobs: BlobStore
) -> Fleet:
    """Assemble the parts of the fleet service."""
    limits, counters = config.limits, FleetCounters()
    memory = FleetMemory()
    desired = DesiredRows(store, memory)
    placement = PlacementWriter(
        store, desired, memory, now_mono_ms=clock.now_mono_ms, now_unix_ms=clock.now_unix_ms
    )
    supervisor = FleetSupervisor(
        store,
        placement,
        memory,
        _policy(config),
        counters=counters,
        now_mono_ms=clock.now_mono_ms,
        now_unix_ms=clock.now_unix_ms,
        history_max_age_ms=limits.history_max_age_s * 1_000,
        held_by=lambda: registry.held(ResourceType.DEPLOYMENTS),
        live_of=lambda node_id: registry.live_node(node_id),
    )
    registry = FleetRegistry(
        store,
        memory,
        max_agents=limits.max_agents,
        query_limits=QueryLimits(
            limits.max_queries, limits.max_queries_per_node, limits.query_timeout_ms
        ),
        counters=counters,
        now_mono_ms=clock.now_mono_ms,
        now_unix_ms=clock.now_unix_ms,
        draw=random.random,
        on_topology_forced=supervisor.lift_freeze,
        on_twin=supervisor.twin,
        alive_ms=config.health.status_interval_ms * config.health.suspect_after_misses,
    )
    questions = AgentQuestions(registry.ask)
    dialer = PeerDialer(
        store,
        connected=registry.connected_nodes,
        dial=questions.dial,
        now_mono_ms=clock.now_mono_ms,
    )
    refusals = RefusalRecorder(store, clock.now_mono_ms)
    parts = FleetParts(
        store=store,
        certificates=NodeCertificates(store, authority, clock.now_unix_ms),
        registry=registry,
        supervisor=supervisor,
        dialer=dialer,
        files=FleetFiles(
            blobs,
            FileHolders(store),
            max_streams=limits.blob_streams,
            max_streams_per_node=limits.blob_streams_per_node,
            counters=counters,
        ),
        sessions=SessionParts(
            encoder=PushEncoder(store, counters),
            push_slots=asyncio.Semaphore(limits.concurrent_pushes),
            counters=counters,
            now_mono_ms=clock.now_mono_ms,
            on_alarm=supervisor.alarm,
        ),
        refusals=refusals,
        counters=counters,
        now_mono_ms=clock.now_mono_ms,
        now_unix_ms=clock.now_unix_ms,
    )
    service = FleetService(
        parts,
        FleetLimits(
            hello_timeout_ms=limits.hello_timeout_ms,
            push_timeout_ms=limits.push_timeout_ms,
            messages_per_s=limits.agent_messages_per_s,
            messages_burst=limits.agent_messages_burst,
        ),
    )
    return Fleet(registry, supervisor, placement, dialer, questions, service, refusals, counters)


def _make_servers(
    config: CoordinatorConfig,
    store: Store,
    authority: CertificateAuthority,
    credentials: ServerCredentials,
    fleet: Fleet,
    operations: Operations,
    operator_certificates: OperatorCertificates,
    calls: RunningCalls,
) -> list[Server]:
    """Return the three gRPC listeners, bound. Raises: ConfigInvalid."""
    limits = config.limits
    addresses = {name: join_address(*where) for name, where in config.listeners().items()}

    def appended(note: AuditNote) -> Awaitable[None]:
        return store.write(audit.append(note))

    nodes_only = IdentityInterceptor(
        {IdentityKind.NODE},
        audit=appended,
        now_mono_ms=clock.now_mono_ms,
        is_known=lambda identity: store.node_record(identity.name) is not None,
        was_removed=lambda identity: store.was_enrolled(identity.name),
    )
    fleet_server = make_server(
        [ErrorInterceptor(clock.now_mono_ms), nodes_only],
        max_calls=limits.max_agents + limits.blob_streams + _SPARE_FLEET_CALLS,
        max_message_bytes=limits.max_message_bytes,
    )
    fleet_server.add_generic_rpc_handlers((fleet.service.handler(),))
    bind(fleet_server, "fleet", addresses["fleet"], credentials.mutual())

    admin_server = _make_admin_server(config, store, operations, calls, appended)
    bind(admin_server, "admin", addresses["admin"], credentials.mutual())

    enrolment_server = make_server(
        [ErrorInterceptor(clock.now_mono_ms)],
        max_calls=limits.max_enrolment_calls,
        max_message_bytes=MAX_MESSAGE_BYTES,
    )
    enrolment = EnrolmentService(
        store=store,
        certificates=NodeCertificates(store, authority, clock.now_unix_ms),
        operators=operator_certificates,
        fleet_address=config.fleet_address,
        admin=AdminListener(config.admin_address, "admin" in config.loopback_listeners),
        now_mono_ms=clock.now_mono_ms,
    )
    add_EnrolmentServicer_to_server(enrolment, enrolment_server)
    bind(enrolment_server, "enrolment", addresses["enrolment"], credentials.server_only())
    return [fleet_server, admin_server, enrolment_server]


def _make_admin_server(
    config: CoordinatorConfig,
    store: Store,
    operations: Operations,
    calls: RunningCalls,
    audited: Callable[[AuditNote], Awaitable[None]],
) -> Server:
    """Return the operators' listener, not bound."""
    rows = OperatorRows(store)
    operators_only = IdentityInterceptor(
        {IdentityKind.OPERATOR},
        audit=audited,
        now_mono_ms=clock.now_mono_ms,
        is_known=rows.is_known,
        unknown_hint=UNKNOWN_HINT,
        calls=calls,
    )
    admin_server = make_server(
        [ErrorInterceptor(), operators_only],
        max_calls=config.limits.max_admin_calls,
        max_message_bytes=config.limits.max_message_bytes,
    )
    add_AdminServicer_to_server(AdminService(operations, rows.role_of), admin_server)
    add_DeploysServicer_to_server(DeployService(operations, rows.role_of), admin_server)
    add_RegistryServicer_to_server(RegistryService(operations, rows.role_of), admin_server)
    add_AdoptionServicer_to_server(AdoptionService(operations, rows.role_of), admin_server)
    add_DeploysServicer_to_server(DeployService(operations, rows.role_of), admin_server)
    return admin_server


def _make_operations(
    config: CoordinatorConfig,
    store: Store,
    ca_sha256_hex: str,
    blobs: BlobStore,
    fleet: Fleet,
    operator_certificates: OperatorCertificates,
    calls: RunningCalls,
) -> Operations:
    """Return the use cases that every door shares."""
    return make_operations(
        OperationsParts(
            store=store,
            blobs=blobs,
            refusals=fleet.refusals,
            live=fleet.registry,
            agents=fleet.questions,
            dials=fleet.dialer,
            force_table=fleet.registry.force_table,
            ca_sha256_hex=ca_sha256_hex,
            enrolment_address=config.enrolment_address,
            admin_address=config.admin_address,
            loopback_listeners=config.loopback_listeners,
            operator_certificates=operator_certificates,
            now_unix_ms=clock.now_unix_ms,
            on_resumed=fleet.supervisor.resumed,
            on_ordered=fleet.supervisor.ordered,
            plan=fleet.placement,
            on_plan_changed=fleet.supervisor.changed,
            on_operator_changed=calls.end,
            hub_endpoint=config.hub_endpoint,
            hub_own_authority=not (config.hub.plain_http or config.hub.certificate_file),
            upstream=make_upstream(config),
        )
    )


def _make_http(
    config: CoordinatorConfig, store: Store, fleet: Fleet, stopping: asyncio.Event
) -> HttpListener:
    def missing() -> list[str]:
        reasons = [] if store.available else ["the database cannot be written"]
        return [*reasons, *(["the coordinator is stopping"] if stopping.is_set() else [])]

    def gauges() -> FleetGauges:
        view = store.view()
        tables = {one: store.table(one) for one in _SHARED_TYPES}
        return FleetGauges(
            agents_connected=fleet.registry.connected,
            nodes=Counter(str(node.health) for node in view.nodes.values()),
            frozen=fleet.supervisor.frozen,
            unplaced=fleet.placement.unplaced,
            peers_unreachable=fleet.dialer.failing,
            twins=fleet.registry.twins,
            store_available=store.available,
            epoch=store.epoch,
            tables={str(one): (table.at.version, len(table.rows)) for one, table in tables.items()},
        )

    parts = HttpParts(
        missing=missing,
        prices=lambda: store.view().prices.values(),
        metrics=make_metrics(fleet.counters, gauges),
    )
    http = config.http
    return HttpListener(
        parts, http.host, http.port, max_connections=config.limits.max_http_connections
    )


def _watch_handshakes(fleet: Fleet) -> NativeLog:
    """Log and audit TLS clients without a valid certificate."""
    loop = asyncio.get_running_loop()
    under_way: set[asyncio.Task[None]] = set()

    def record(cause: str) -> None:
        fleet.counters.handshakes_refused += 1
        if under_way:
            return  # one at a time: a flood is counted, not queued
        note = AuditNote("anonymous@unknown", "tls.refused", "fleet or admin listener", cause)
        task = loop.create_task(fleet.refusals.record(note))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    def on_refused(cause: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(record, cause)

    native = NativeLog(on_refused)
    native.start()
    return native


@contextlib.asynccontextmanager
async def _opened_store(config: CoordinatorConfig) -> AsyncIterator[Store]:
    store = await Store.open(config.database, now_unix_ms=clock.now_unix_ms, must_exist=True)
    try:
        yield store
    finally:
        await store.close()


def _policy(config: CoordinatorConfig) -> DetectorPolicy:
    health = config.health
    return DetectorPolicy(
        status_interval_ms=health.status_interval_ms,
        suspect_after_misses=health.suspect_after_misses,
        lease_ms=health.lease_ms,
        probe_fresh_ms=health.probe_fresh_ms,
        freeze_share=health.freeze_share,
        freeze_min_nodes=health.freeze_min_nodes,
    )
