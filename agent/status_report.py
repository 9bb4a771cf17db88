"""The agent's messages about itself to the coordinator: Hello once, a Status every 2 s."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.link.reports import (
    accelerator_to_wire,
    clipped,
    cold_starts_to_wire,
    complaints_to_wire,
    demand_to_wire,
    disk_to_wire,
    fault_to_wire,
    peer_to_wire,
    replica_to_wire,
    with_progress,
)
from agent.link.stream import have_of
from protos.build_info import product_version
from protos.v1 import fleet_pb2
from protos.wire import SCHEMA, profile_to_wire, service_to_wire

if TYPE_CHECKING:
    from agent.artifacts.objects import ObjectStore
    from agent.config import AgentConfig
    from agent.core.fill import FillMeter
    from agent.core.live import LiveState
    from agent.drain_state import DrainState
    from agent.gateway.records import RequestRecords
    from agent.gateway.stats import GatewayStats
    from agent.gpu.watch import GpuWatch
    from agent.link.identity import CurrentIdentity
    from agent.link.status import CredentialsAge
    from agent.link.tables import TableKeeper
    from agent.peers.port import PeerPort
    from agent.replicas import Replicas
    from agent.spool.stats import SpoolStats
    from protos.domain.hardware import NodeHardware


@dataclass(frozen=True, slots=True)
class StatusReport:
    """Reads the parts whose state the coordinator needs; each field of Status is one line here."""

    config: AgentConfig
    identity: CurrentIdentity
    tables: TableKeeper
    credentials: CredentialsAge
    replicas: Replicas
    objects: ObjectStore
    live: LiveState
    gateway: GatewayStats
    peer_port: PeerPort
    records: RequestRecords
    drain_state: DrainState
    gpu: GpuWatch
    clock_offset_ms: Callable[[], float]
    now_mono_ms: Callable[[], float]
    capacity: Callable[[], NodeHardware]
    fill: FillMeter
    usage: SpoolStats
    #: New at each start of the agent.
    boot_id: str = field(default_factory=lambda: secrets.token_hex(8))

    def hello(self) -> fleet_pb2.Hello:
        """Return the first message of a stream."""
        config = self.config
        capacity = self.capacity()
        peer_host, peer_port = config.peer_address
        return fleet_pb2.Hello(
            node_id=self.identity.value.node_id,
            boot_id=self.boot_id,
            schema=SCHEMA,
            have=have_of(self.tables),
            agent_version=product_version(),
            peer_host=peer_host,
            peer_port=peer_port or self.peer_port.port,
            client_url=config.client_url,
            engine_kind=config.engine.kind,
            profile=profile_to_wire(config.engine.profile()),
            accelerator_kind=capacity.accelerator_kind,
            weights_memory_bytes=capacity.weights_memory_bytes,
            engine_version=capacity.engine_version,
            max_adapters=capacity.max_adapters,
            max_adapter_rank=capacity.max_adapter_rank,
            max_engines=capacity.max_engines,
        )

    def status(self) -> fleet_pb2.Status:
        """Return the node's state now; the link numbers it."""
        reason = self.drain_state.own_reason
        return fleet_pb2.Status(
            have=have_of(self.tables),
            replicas=self._replicas(),
            peers=[peer_to_wire(peer) for peer in self.live.peer_views(self.now_mono_ms())],
            in_flight_requests=self.gateway.in_flight,
            engine_in_flight_requests=self._engine_in_flight(),
            draining=bool(reason),
            draining_reason=clipped(reason),
            accelerators=[accelerator_to_wire(one) for one in self.gpu.readings],
            faults=[fault_to_wire(one) for one in self.gpu.faults],
            credentials_age_s=self.credentials.age_s(),
            certificate_age_s=self.identity.certificate_age_s(),
            service=service_to_wire(self.records.service()),
            certificate_remaining_s=self.identity.certificate_remaining_s(),
            clock_offset_ms=self.clock_offset_ms(),
            renewal_error=clipped(self.identity.renewal_error()),
            usage_complaints=complaints_to_wire(self.live.overclaims()),
            demand=demand_to_wire(self.gateway.demand.per_minute(self.now_mono_ms())),
            cold_starts=cold_starts_to_wire(self.replicas.cold_starts.summaries()),
            disk=disk_to_wire(self.objects.disk()),
            fill_ratio=self.fill.fill_ratio(self.now_mono_ms()),
            usage=self._usage(),
        )

    def _replicas(self) -> list[fleet_pb2.ReplicaStatus]:
        progress = self.objects.progress()
        return [with_progress(replica_to_wire(held), progress) for held in self.replicas.report()]

    def _usage(self) -> fleet_pb2.UsageState:
        stats = self.usage
        return fleet_pb2.UsageState(
            waiting=stats.waiting,
            oldest_s=stats.oldest_s(self.now_mono_ms()),
            older_spools=stats.older_spools,
            refused=stats.refused,
            quarantined=len(stats.quarantined),
            trouble=clipped(stats.full or stats.disk_failure or stats.delivery_failure),
        )

    def _engine_in_flight(self) -> int:
        """Return what is at this node's engine: requests of peers, sequences of its own clients."""
        own = self.live.in_flight(self.identity.value.node_id)
        return self.peer_port.stats.in_flight + own
