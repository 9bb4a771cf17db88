"""Conversion of this agent's replicas, peers, accelerators and faults to messages."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Protocol

from agent.core.accelerator_health import Severity
from protos.v1 import fleet_pb2
from protos.wire import replica_state_to_wire, residency_to_wire

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.core.accelerator_health import Fault
    from agent.core.accelerators import Reading
    from agent.core.cold_start_times import ColdStartSummary
    from agent.core.live import PeerView
    from agent.core.reconcile import HeldReplica

_MAX_TEXT_CHARS = 300
_MAX_COLD_STARTS = 16


def clipped(text: str) -> str:
    """Return ``text``, cut to the length that a message may carry."""
    return text[:_MAX_TEXT_CHARS]


def replica_to_wire(held: HeldReplica) -> fleet_pb2.ReplicaStatus:
    """Return the state of one desired model or adapter."""
    return fleet_pb2.ReplicaStatus(
        model=held.model,
        state=replica_state_to_wire(held.state),
        generation=held.generation,
        error=clipped(held.error),
        adapter=held.adapter,
        residency=residency_to_wire(held.residency),
    )


def cold_starts_to_wire(summaries: Iterable[ColdStartSummary]) -> list[fleet_pb2.ColdStarts]:
    """Return what cold starts took, by path and residency."""
    return [
        fleet_pb2.ColdStarts(
            path=one.path.value,
            residency=residency_to_wire(one.residency),
            count=one.count,
            p50_ms=one.p50_ms,
            p99_ms=one.p99_ms,
            ms_per_gb=one.ms_per_gb,
        )
        for one in itertools.islice(summaries, _MAX_COLD_STARTS)
    ]


class Progress(Protocol):
    """How far a pull is."""

    @property
    def verified_bytes(self) -> int: ...
    @property
    def total_bytes(self) -> int: ...
    @property
    def error(self) -> str: ...


class Disk(Protocol):
    """The disk of models."""

    @property
    def quota_bytes(self) -> int: ...
    @property
    def used_bytes(self) -> int: ...
    @property
    def pinned_bytes(self) -> int: ...
    @property
    def trouble(self) -> str: ...


def with_progress(
    status: fleet_pb2.ReplicaStatus, progress: Mapping[str, Progress]
) -> fleet_pb2.ReplicaStatus:
    """Add how far the pull of its object is, if it is being pulled."""
    if (pull := progress.get(status.adapter or status.model)) is not None:
        status.pulled_bytes, status.total_bytes = pull.verified_bytes, pull.total_bytes
        status.error = status.error or clipped(pull.error)
    return status


def disk_to_wire(disk: Disk) -> fleet_pb2.Disk:
    """Return the disk of models."""
    return fleet_pb2.Disk(
        quota_bytes=disk.quota_bytes,
        used_bytes=disk.used_bytes,
        pinned_bytes=disk.pinned_bytes,
        trouble=clipped(disk.trouble),
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
