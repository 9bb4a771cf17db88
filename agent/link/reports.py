"""Conversion of this agent's replicas, peers, accelerators and faults to messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.accelerator_health import Severity
from protos.v1 import fleet_pb2
from protos.wire import replica_state_to_wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.core.accelerator_health import Fault
    from agent.core.accelerators import Reading
    from agent.core.live import PeerView
    from agent.core.reconcile import HeldReplica

_MAX_TEXT_CHARS = 300


def clipped(text: str) -> str:
    """Return ``text``, cut to the length that a message may carry."""
    return text[:_MAX_TEXT_CHARS]


def replica_to_wire(held: HeldReplica) -> fleet_pb2.ReplicaStatus:
    """Return the state of one desired model."""
    return fleet_pb2.ReplicaStatus(
        model=held.model,
        state=replica_state_to_wire(held.state),
        generation=held.generation,
        error=clipped(held.error),
    )


def peer_to_wire(peer: PeerView) -> fleet_pb2.PeerView:
    """Return whether one peer was reached recently, and its round trip."""
    return fleet_pb2.PeerView(node_id=peer.node_id, reachable=peer.reachable, rtt_ms=peer.rtt_ms)


def complaints_to_wire(overclaims: Mapping[str, int]) -> list[fleet_pb2.UsageComplaint]:
    """Return of which nodes this agent has answers with impossible counts, and how many."""
    return [
        fleet_pb2.UsageComplaint(node_id=node_id, answers=answers)
        for node_id, answers in overclaims.items()
    ]


def fault_to_wire(fault: Fault) -> fleet_pb2.AcceleratorFault:
    """Return one fault of an accelerator or of its reader."""
    return fleet_pb2.AcceleratorFault(
        accelerator=fault.accelerator,
        kind=fault.kind,
        fatal=fault.severity is Severity.FATAL,
        code=fault.code,
        detail=clipped(fault.detail),
        active=fault.active,
        latched=fault.latched,
    )


def accelerator_to_wire(one: Reading) -> fleet_pb2.Accelerator:
    """Return the latest reading of one accelerator."""
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


def demand_to_wire(per_minute: list[tuple[str, float]]) -> list[fleet_pb2.Demand]:
    """Return the requests a minute of each deployment."""
    return [
        fleet_pb2.Demand(deployment=name, requests_per_minute=rate) for name, rate in per_minute
    ]
