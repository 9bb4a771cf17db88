"""Conversion of what nodes report to domain values, and of that to administration's messages."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, TypeVar

from coordinator.fleet.live import (
    Accelerator,
    AcceleratorFault,
    NodeReport,
    ReportedColdStarts,
    ReportedDisk,
    ReportedReplica,
    ReportedUsage,
)
from coordinator.rpc.fleet_messages import (
    MAX_ACCELERATORS,
    MAX_BYTES,
    MAX_DETAIL_CHARS,
    MAX_FAULTS,
    MAX_MODEL_CHARS,
    MAX_REPLICAS,
    holdings_of,
    printable,
)
from protos.domain.routing_table import digest_to_bytes
from protos.v1 import fleet_pb2
from protos.wire import (
    replica_state_from_wire,
    replica_state_to_wire,
    residency_from_wire,
    residency_to_wire,
    resource_type_to_wire,
    service_from_wire,
    service_to_wire,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordinator.core.push_session import Holding
    from protos.domain.resources import ResourceType
    from protos.domain.service import Service
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
#: Longest name of an accelerator, of its fault, and of why its clock is low; and how many of these.
_MAX_NAME_CHARS = 128
_MAX_CLOCK_REASONS = 16
#: Paths and residencies of cold starts.
_MAX_COLD_STARTS = 16
#: Of a number that a node reports: 30,000 years in seconds. JSON has no word for what is no number.
_MOST = 1e12
_Number = TypeVar("_Number", int, float)


def report_of(status: fleet_pb2.Status) -> NodeReport:
    """Return a checked status as operators see it. Raises: InvalidRequest."""
    return NodeReport(
        **{name: _finite(getattr(status, name)) for name in _PLAIN},
        replicas=tuple(
            ReportedReplica(
                printable(one.model, MAX_MODEL_CHARS),
                replica_state_from_wire(one.state),
                one.generation,
                printable(one.error, MAX_DETAIL_CHARS),
                printable(one.adapter, MAX_MODEL_CHARS),
                residency_from_wire(one.residency),
                min(one.pulled_bytes, MAX_BYTES),
                min(one.total_bytes, MAX_BYTES),
            )
            for one in status.replicas[:MAX_REPLICAS]
        ),
        have=holdings_of(status.have),
        accelerators=tuple(map(_accelerator_of, status.accelerators[:MAX_ACCELERATORS])),
        faults=tuple(map(_fault_of, status.faults[:MAX_FAULTS])),
        renewal_error=printable(status.renewal_error, MAX_DETAIL_CHARS),
        service=_service_of(status) if status.HasField("service") else None,
        disk=_disk_of(status.disk) if status.HasField("disk") else None,
        cold_starts=tuple(map(_cold_starts_of, status.cold_starts[:_MAX_COLD_STARTS])),
        fill_ratio=_fill_of(status),
        usage=_usage_of(status.usage) if status.HasField("usage") else None,
    )


def _fill_of(status: fleet_pb2.Status) -> float | None:
    """Return the fill that a node reports, believed up to full."""
    if not status.HasField("fill_ratio") or not math.isfinite(status.fill_ratio):
        return None
    return min(max(status.fill_ratio, 0.0), 1.0)


def _usage_of(usage: fleet_pb2.UsageState) -> ReportedUsage:
    return ReportedUsage(
        waiting=min(usage.waiting, int(_MOST)),
        oldest_s=_finite(usage.oldest_s),
        older_spools=usage.older_spools,
        refused=min(usage.refused, int(_MOST)),
        quarantined=usage.quarantined,
        trouble=printable(usage.trouble, MAX_DETAIL_CHARS),
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
            adapter=one.adapter,
            residency=residency_to_wire(one.residency),
            pulled_bytes=one.pulled_bytes,
            total_bytes=one.total_bytes,
        )
        for one in report.replicas
    )
    info.have.extend(haves_to_wire(report.have))
    info.accelerators.extend(map(_accelerator_to_wire, report.accelerators))
    info.faults.extend(fleet_pb2.AcceleratorFault(**asdict(one)) for one in report.faults)
    if report.service is not None:
        info.service.CopyFrom(service_to_wire(report.service))
    if report.disk is not None:
        info.disk.CopyFrom(fleet_pb2.Disk(**asdict(report.disk)))
    if report.usage is not None:
        info.usage.CopyFrom(fleet_pb2.UsageState(**asdict(report.usage)))
    info.cold_starts.extend(
        fleet_pb2.ColdStarts(
            path=one.path,
            residency=residency_to_wire(one.residency),
            count=one.count,
            p50_ms=one.p50_ms,
            p99_ms=one.p99_ms,
            ms_per_gb=one.ms_per_gb,
        )
        for one in report.cold_starts
    )


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
    figures = {
        name: _finite(getattr(message, name))
        for name in _FIGURES
        if message.HasField(name)  # type: ignore[arg-type]
    }
    return Accelerator(
        id=printable(message.id, _MAX_NAME_CHARS),
        index=message.index,
        name=printable(message.name, _MAX_NAME_CHARS),
        clock_reasons=tuple(
            printable(one, _MAX_NAME_CHARS) for one in message.clock_reasons[:_MAX_CLOCK_REASONS]
        ),
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
    return AcceleratorFault(
        detail=printable(message.detail, MAX_DETAIL_CHARS),
        accelerator=printable(message.accelerator, _MAX_NAME_CHARS),
        kind=printable(message.kind, _MAX_NAME_CHARS),
        fatal=message.fatal,
        code=message.code,
        active=message.active,
        latched=message.latched,
    )


def _disk_of(message: fleet_pb2.Disk) -> ReportedDisk:
    return ReportedDisk(
        min(message.quota_bytes, MAX_BYTES),
        min(message.used_bytes, MAX_BYTES),
        min(message.pinned_bytes, MAX_BYTES),
        printable(message.trouble, MAX_DETAIL_CHARS),
    )


def _cold_starts_of(message: fleet_pb2.ColdStarts) -> ReportedColdStarts:
    return ReportedColdStarts(
        printable(message.path, _MAX_NAME_CHARS),
        residency_from_wire(message.residency),
        message.count,
        _finite(message.p50_ms),
        _finite(message.p99_ms),
        _finite(message.ms_per_gb),
    )


def _service_of(status: fleet_pb2.Status) -> Service:
    told = service_from_wire(status.service)
    return replace(
        told, ttft_ms_p50=_finite(told.ttft_ms_p50), ttft_ms_p99=_finite(told.ttft_ms_p99)
    )


def _finite(number: _Number) -> _Number:
    """Return a number that a node reports; 0 for what is none, and no more than ``_MOST``."""
    if isinstance(number, int):
        return number
    return min(max(number, -_MOST), _MOST) if math.isfinite(number) else 0.0
