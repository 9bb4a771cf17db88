"""The parts of the fleet service and the use cases, put together from the configuration."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator import clock
from coordinator.core.failure_detector import DetectorPolicy
from coordinator.core.fleet_figures import FleetCounters
from coordinator.core.quota_shares import QuotaShares
from coordinator.fleet.agent_queries import QueryLimits
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
from coordinator.hub.assembly import make_upstream
from coordinator.operations.node_certificates import NodeCertificates
from coordinator.operations.operations import Operations
from coordinator.operations.operations import make_operations as operations_of
from coordinator.operations.refusals import RefusalRecorder
from coordinator.operations.use_case import OperationsParts
from coordinator.rpc.agent_questions import AgentQuestions
from coordinator.rpc.fleet import FleetLimits, FleetParts, FleetService
from coordinator.rpc.quota import QuotaService
from coordinator.usage.exports import UsageExports
from coordinator.usage.ingest import Ingest
from coordinator.usage.known import read_known
from coordinator.usage.upkeep import UsageUpkeep
from protos.domain.resources import ResourceType

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordinator.blobs.interface import BlobStore
    from coordinator.ca.authority import CertificateAuthority
    from coordinator.config import CoordinatorConfig
    from coordinator.operations.operator_certificates import OperatorCertificates
    from coordinator.rpc.running_calls import RunningCalls
    from coordinator.store.store import Store
    from coordinator.usage.database import UsageDatabase


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
    quota: QuotaService


def make_fleet(
    config: CoordinatorConfig,
    store: Store,
    authority: CertificateAuthority,
    blobs: BlobStore,
    remaining_of: Callable[[str], int | None] = lambda account: None,
) -> Fleet:
    """Assemble the parts of the fleet service, and tell them of changes of the table.

    ``remaining_of``: see ``QuotaService``.
    """
    counters, memory = FleetCounters(), FleetMemory()
    placement = PlacementWriter(
        store,
        DesiredRows(store, memory),
        memory,
        now_mono_ms=clock.now_mono_ms,
        now_unix_ms=clock.now_unix_ms,
    )
    supervisor = FleetSupervisor(
        store,
        placement,
        memory,
        _policy(config),
        counters=counters,
        now_mono_ms=clock.now_mono_ms,
        now_unix_ms=clock.now_unix_ms,
        history_max_age_ms=config.limits.history_max_age_s * 1_000,
        held_by=lambda: registry.held(ResourceType.DEPLOYMENTS),
        live_of=lambda node_id: registry.live_node(node_id),
    )
    registry = _make_registry(config, store, memory, supervisor, counters)
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
        files=_make_files(config, store, blobs, counters),
        sessions=SessionParts(
            encoder=PushEncoder(store, counters),
            push_slots=asyncio.Semaphore(config.limits.concurrent_pushes),
            counters=counters,
            now_mono_ms=clock.now_mono_ms,
            on_alarm=supervisor.alarm,
        ),
        refusals=refusals,
        counters=counters,
        now_mono_ms=clock.now_mono_ms,
        now_unix_ms=clock.now_unix_ms,
    )
    service = FleetService(parts, _service_limits(config))
    store.on_change(registry.table_changed)
    store.on_change(supervisor.table_changed)
    quota = QuotaService(
        QuotaShares(clock.now_unix_ms(), clock.now_mono_ms()),
        store.view,
        remaining_of,
        clock.now_mono_ms,
    )
    return Fleet(
        registry, supervisor, placement, dialer, questions, service, refusals, counters, quota
    )


def _make_registry(
    config: CoordinatorConfig,
    store: Store,
    memory: FleetMemory,
    supervisor: FleetSupervisor,
    counters: FleetCounters,
) -> FleetRegistry:
    limits, health = config.limits, config.health
    return FleetRegistry(
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
        alive_ms=health.status_interval_ms * health.suspect_after_misses,
        zone=config.coordinator.zone,
    )


def _make_files(
    config: CoordinatorConfig, store: Store, blobs: BlobStore, counters: FleetCounters
) -> FleetFiles:
    return FleetFiles(
        blobs,
        FileHolders(store),
        max_streams=config.limits.blob_streams,
        max_streams_per_node=config.limits.blob_streams_per_node,
        counters=counters,
    )


def _service_limits(config: CoordinatorConfig) -> FleetLimits:
    limits = config.limits
    return FleetLimits(
        hello_timeout_ms=limits.hello_timeout_ms,
        push_timeout_ms=limits.push_timeout_ms,
        messages_per_s=limits.agent_messages_per_s,
        messages_burst=limits.agent_messages_burst,
    )


@dataclass(frozen=True, slots=True)
class Usage:
    """The parts of metering and money."""

    database: UsageDatabase
    ingest: Ingest
    exports: UsageExports
    upkeep: UsageUpkeep


async def make_usage(
    config: CoordinatorConfig, database: UsageDatabase, store: Store, blobs: BlobStore
) -> Usage:
    """Assemble the parts of metering and money."""
    ingest = Ingest(database, known=await read_known(database))
    ingest.saw(store.view())
    store.on_change(lambda resource_type, scope: ingest.saw(store.view()))
    exports = UsageExports(database, blobs)
    await exports.start()
    upkeep = UsageUpkeep(ingest, exports, config.usage, clock.now_unix_ms)
    return Usage(database, ingest, exports, upkeep)


def make_operations(
    config: CoordinatorConfig,
    store: Store,
    ca_sha256_hex: str,
    blobs: BlobStore,
    fleet: Fleet,
    operator_certificates: OperatorCertificates,
    calls: RunningCalls,
    usage: Usage,
) -> Operations:
    """Return the use cases that every door shares."""
    return operations_of(
        OperationsParts(
            store=store,
            blobs=blobs,
            account_max_bytes=config.blobs.account_max_bytes,
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
            usage_db=usage.database,
            ingest=usage.ingest,
            usage_exports=usage.exports,
        )
    )


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
