"""Conversion of what nodes report to domain values, and of that to administration's messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.fleet.live import Accelerator, AcceleratorFault, NodeReport, ReportedReplica
from coordinator.rpc.fleet_messages import MAX_DETAIL_CHARS, holdings_of, printable
from protos.domain.routing_table import digest_to_bytes
from protos.v1 import fleet_pb2
from protos.wire import (
    replica_state_from_wire,
    replica_state_to_wire,
    resource_type_to_wire,
    service_from_wire,
    service_to_wire,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordinator.core.push_session import Holding
    from protos.domain.resources import ResourceType
    from protos.v1 import admin_pb2

#: Fields with the same name and type on both sides.
_PLAIN = (
    "in_flight_requests",
    "engine_in_flight_requests",
    "credentials_age_s",
    "certificate_age_s",
    "certificate_remaining_s",
    "clock_offset_ms",
)
#: Figures that an accelerator may not report.
_FIGURES = (
    "utilisation_ratio",
    "memory_used_bytes",
    "memory_total_bytes",
    "temperature_celsius",
    "power_watts",
    "ecc_corrected",
    "ecc_uncorrected",
)
_FAULT = ("accelerator", "kind", "fatal", "code", "detail", "active", "latched")


def report_of(status: fleet_pb2.Status) -> NodeReport:
    """Return a checked status as operators see it. Raises: InvalidRequest."""
    return NodeReport(
        **{name: getattr(status, name) for name in _PLAIN},
        replicas=tuple(
            ReportedReplica(
                one.model, replica_state_from_wire(one.state), one.generation, one.error
            )
            for one in status.replicas
        ),
        have=holdings_of(status.have),
        accelerators=tuple(map(_accelerator_of, status.accelerators)),
        faults=tuple(map(_fault_of, status.faults)),
        renewal_error=printable(status.renewal_error, MAX_DETAIL_CHARS),
        service=service_from_wire(status.service) if status.HasField("service") else None,
    )


def show_report(report: NodeReport, info: admin_pb2.NodeInfo) -> None:
    """Fill ``info`` with a report."""
    for name in _PLAIN:
        setattr(info, name, getattr(report, name))
    info.renewal_error = report.renewal_error
    info.replicas.extend(
        fleet_pb2.ReplicaStatus(
            model=one.model,
            state=replica_state_to_wire(one.state),
            generation=one.generation,
            error=one.error,
        )
        for one in report.replicas
    )
    info.have.extend(haves_to_wire(report.have))
    info.accelerators.extend(map(_accelerator_to_wire, report.accelerators))
    info.faults.extend(
        fleet_pb2.AcceleratorFault(**{name: getattr(one, name) for name in _FAULT})
        for one in report.faults
    )
    if report.service is not None:
        info.service.CopyFrom(service_to_wire(report.service))


def haves_to_wire(holdings: Mapping[ResourceType, Holding]) -> list[fleet_pb2.Have]:
    """Return the identities of tables as messages."""
    return [
        fleet_pb2.Have(
            type=resource_type_to_wire(resource_type),
            epoch=held.at.epoch,
            version=held.at.version,
            digest=b"" if held.digest is None else digest_to_bytes(held.digest),
        )
        for resource_type, held in holdings.items()
    ]


def _accelerator_of(message: fleet_pb2.Accelerator) -> Accelerator:
    figures = {name: getattr(message, name) for name in _FIGURES if message.HasField(name)}  # type: ignore[arg-type]
    return Accelerator(
        id=message.id,
        index=message.index,
        name=message.name,
        clock_reasons=tuple(message.clock_reasons),
        lost=message.lost,
        **figures,
    )


def _accelerator_to_wire(one: Accelerator) -> fleet_pb2.Accelerator:
    return fleet_pb2.Accelerator(
        id=one.id,
        index=one.index,
        name=one.name,
        clock_reasons=one.clock_reasons,
        lost=one.lost,
        **{name: getattr(one, name) for name in _FIGURES},
    )


def _fault_of(message: fleet_pb2.AcceleratorFault) -> AcceleratorFault:
    return AcceleratorFault(**{name: getattr(message, name) for name in _FAULT})
