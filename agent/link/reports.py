"""What this agent tells the coordinator: who it is, and every two seconds how it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.accelerator_health import Severity
from agent.link.stream import have_of
from protos.v1 import fleet_pb2
from protos.wire import SCHEMA, profile_to_wire, replica_state_to_wire, service_to_wire

if TYPE_CHECKING:
    from agent.core.accelerator_health import Fault
    from agent.core.accelerators import Reading
    from agent.core.live import PeerView
    from agent.core.reconcile import HeldReplica
    from agent.link.tables import TableKeeper
    from protos.domain.resources import EngineProfile
    from protos.domain.service import Service

_MAX_ERROR_CHARS = 300


@dataclass(frozen=True, slots=True)
class SelfDescription:
    """What does not change while this agent runs."""

    node_id: str
    boot_id: str
    agent_version: str
    peer_host: str
    peer_port: int
    client_url: str
    engine_kind: str
    profile: EngineProfile


def hello(about: SelfDescription, tables: TableKeeper) -> fleet_pb2.Hello:
    """Return the first message of a stream."""
    return fleet_pb2.Hello(
        node_id=about.node_id,
        boot_id=about.boot_id,
        schema=SCHEMA,
        have=have_of(tables),
        agent_version=about.agent_version,
        peer_host=about.peer_host,
        peer_port=about.peer_port,
        client_url=about.client_url,
        engine_kind=about.engine_kind,
        profile=profile_to_wire(about.profile),
    )


def status(
    tables: TableKeeper,
    *,
    replicas: Iterable[HeldReplica],
    peers: Iterable[PeerView],
    in_flight: int,
    engine_in_flight: int,
    draining_reason: str,
    accelerators: Iterable[Reading],
    faults: Iterable[Fault],
    credentials_age_s: float,
    certificate_age_s: float,
    service: Service,
) -> fleet_pb2.Status:
    """Return a status; the link numbers it."""
    return fleet_pb2.Status(
        replicas=[
            fleet_pb2.ReplicaStatus(
                model=held.model,
                state=replica_state_to_wire(held.state),
                generation=held.generation,
                error=held.error[:_MAX_ERROR_CHARS],
            )
            for held in replicas
        ],
        peers=[
            fleet_pb2.PeerView(node_id=peer.node_id, reachable=peer.reachable, rtt_ms=peer.rtt_ms)
            for peer in peers
        ],
        in_flight_requests=in_flight,
        engine_in_flight_requests=engine_in_flight,
        draining=bool(draining_reason),
        draining_reason=draining_reason[:_MAX_ERROR_CHARS],
        accelerators=[_accelerator(one) for one in accelerators],
        faults=[fault_to_wire(one) for one in faults],
        credentials_age_s=credentials_age_s,
        certificate_age_s=certificate_age_s,
        have=have_of(tables),
        service=service_to_wire(service),
    )


def fault_to_wire(fault: Fault) -> fleet_pb2.AcceleratorFault:
    """Return one line of the report on what is wrong."""
    return fleet_pb2.AcceleratorFault(
        accelerator=fault.accelerator,
        kind=fault.kind,
        fatal=fault.severity is Severity.FATAL,
        code=fault.code,
        detail=fault.detail[:_MAX_ERROR_CHARS],
        active=fault.active,
        latched=fault.latched,
    )


def _accelerator(one: Reading) -> fleet_pb2.Accelerator:
    return fleet_pb2.Accelerator(
        id=one.id,
        index=one.index,
        name=one.name,
        utilisation_ratio=one.utilisation_ratio,
        memory_used_bytes=one.memory_used_bytes,
        memory_total_bytes=one.memory_total_bytes,
        temperature_celsius=one.temperature_celsius,
        power_watts=one.power_watts,
        clock_reasons=one.clock_reasons,
        ecc_corrected=one.ecc_corrected,
        ecc_uncorrected=one.ecc_uncorrected,
        lost=one.lost,
    )
