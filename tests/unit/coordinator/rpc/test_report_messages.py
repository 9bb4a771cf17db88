"""What a node reports is shown to an operator as it came."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from coordinator.rpc.fleet_messages import MAX_BYTES, MAX_DETAIL_CHARS, MAX_FAULTS
from coordinator.rpc.report_messages import report_of, show_report
from protos.v1 import admin_pb2, fleet_pb2, resources_pb2

STATUS = fleet_pb2.Status(
    replicas=[
        fleet_pb2.ReplicaStatus(
            model="acme/m@1",
            state=resources_pb2.REPLICA_STATE_FAILED,
            generation=3,
            error="oom",
            adapter="acme/fr@1",
            residency=resources_pb2.RESIDENCY_PEER,
            pulled_bytes=120,
            total_bytes=269,
        )
    ],
    in_flight_requests=7,
    engine_in_flight_requests=9,
    credentials_age_s=2.0,
    certificate_age_s=3.0,
    have=[
        fleet_pb2.Have(
            type=resources_pb2.RESOURCE_TYPE_PRICES, epoch=1, version=3, digest=b"\0" * 31 + b"\5"
        )
    ],
    accelerators=[
        fleet_pb2.Accelerator(
            id="GPU-1",
            index=1,
            name="H100",
            utilisation_ratio=0.0,
            memory_used_bytes=5,
            power_watts=700.0,
            clock_reasons=["thermal"],
        ),
        fleet_pb2.Accelerator(id="GPU-2", lost=True),
    ],
    faults=[
        fleet_pb2.AcceleratorFault(
            accelerator="GPU-2",
            kind="lost",
            fatal=True,
            code=79,
            detail="gone",
            active=True,
            latched=True,
        )
    ],
    disk=fleet_pb2.Disk(quota_bytes=9, used_bytes=8, pinned_bytes=7, trouble="full"),
    cold_starts=[
        fleet_pb2.ColdStarts(
            path="swap",
            residency=resources_pb2.RESIDENCY_DISK,
            count=300,
            p50_ms=400.0,
            p99_ms=590.0,
            ms_per_gb=1_500.0,
        )
    ],
    service=fleet_pb2.Service(admitted=5, shed=1, first_tokens=4, ttft_ms_p50=1.5, ttft_ms_p99=2.5),
)
SHARED = (
    "replicas",
    "in_flight_requests",
    "engine_in_flight_requests",
    "credentials_age_s",
    "certificate_age_s",
    "have",
    "accelerators",
    "faults",
    "service",
    "disk",
    "cold_starts",
)


def shown(status: fleet_pb2.Status) -> admin_pb2.NodeInfo:
    info = admin_pb2.NodeInfo()
    show_report(report_of(status), info)
    return info


def test_every_field_of_a_report_arrives_unchanged():
    for name in SHARED:
        assert getattr(shown(STATUS), name) == getattr(STATUS, name), name


def test_figures_that_an_accelerator_does_not_report_stay_absent():
    one, two = shown(STATUS).accelerators
    assert one.HasField("utilisation_ratio")
    assert not one.HasField("temperature_celsius")
    assert not two.HasField("memory_used_bytes")


def test_an_empty_report_shows_no_service():
    assert not shown(fleet_pb2.Status()).HasField("service")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), 1e308, -1e308])
def test_a_report_of_numbers_that_are_none_breaks_no_operators_json(number: float) -> None:
    status = fleet_pb2.Status(
        credentials_age_s=number,
        certificate_age_s=number,
        certificate_remaining_s=number,
        clock_offset_ms=number,
        accelerators=[fleet_pb2.Accelerator(id="a", utilisation_ratio=number, power_watts=number)],
        service=fleet_pb2.Service(ttft_ms_p50=number, ttft_ms_p99=number),
    )
    report = asdict(report_of(status))
    told = {name: report[name] for name in ("accelerators", "service", "clock_offset_ms")}
    shown = json.dumps(told, allow_nan=False)
    assert "e+308" not in shown


def test_texts_of_a_report_are_bounded_and_printable() -> None:
    long = "\x1b[31m" + "a" * 1_000_000
    status = fleet_pb2.Status(
        replicas=[fleet_pb2.ReplicaStatus(model=long, state=resources_pb2.REPLICA_STATE_FAILED)],
        accelerators=[fleet_pb2.Accelerator(id=long, name=long, clock_reasons=[long] * 100)],
        faults=[fleet_pb2.AcceleratorFault(kind=long, accelerator=long, detail=long)] * 200,
    )
    status.replicas[0].error = long
    info = admin_pb2.NodeInfo()
    show_report(report_of(status), info)
    assert len(info.faults) == MAX_FAULTS
    assert len(info.faults[0].detail) == MAX_DETAIL_CHARS
    assert "\x1b" not in str(info)
    assert info.ByteSize() < 100_000


def test_figures_of_a_disk_and_of_cold_starts_are_bounded():
    status = fleet_pb2.Status(
        disk=fleet_pb2.Disk(quota_bytes=(1 << 64) - 1, trouble="x\n" * 5_000),
        cold_starts=[
            fleet_pb2.ColdStarts(path="p\x00" * 900, p99_ms=float("nan"), p50_ms=float("inf"))
        ]
        * 99,
        replicas=[fleet_pb2.ReplicaStatus(state=3, total_bytes=(1 << 64) - 1, adapter="a" * 9_999)],
    )
    info = shown(status)
    assert info.disk.quota_bytes == MAX_BYTES
    assert len(info.disk.trouble) == MAX_DETAIL_CHARS
    assert info.disk.trouble.isprintable()
    assert len(info.cold_starts) == 16
    assert info.cold_starts[0].p99_ms == 0.0
    assert info.replicas[0].total_bytes == MAX_BYTES
    assert len(info.replicas[0].adapter) < 1_000
    json.dumps(asdict(report_of(status)), default=str)


@pytest.mark.parametrize(
    ("told", "believed"),
    [(0.4, 0.4), (7.0, 1.0), (-1.0, 0.0), (float("nan"), None), (float("inf"), None)],
)
def test_a_fill_is_believed_up_to_full(told, believed):
    assert report_of(fleet_pb2.Status(fill_ratio=told)).fill_ratio == believed


def test_an_agent_that_reports_no_fill_is_not_idle():
    assert report_of(fleet_pb2.Status()).fill_ratio is None


def test_an_agent_that_keeps_no_records_is_told_from_one_that_has_none_waiting():
    assert report_of(fleet_pb2.Status()).usage is None
    told = report_of(fleet_pb2.Status(usage=fleet_pb2.UsageState())).usage
    assert told is not None
    assert (told.waiting, told.oldest_s, told.trouble) == (0, 0.0, "")


def test_what_a_node_says_of_its_records_is_bounded():
    wild = fleet_pb2.UsageState(
        waiting=2**64 - 1,
        oldest_s=float("nan"),
        refused=2**64 - 1,
        trouble="\x1b[31m" + "x" * 5_000,
    )
    info = admin_pb2.NodeInfo()
    show_report(report_of(fleet_pb2.Status(usage=wild)), info)
    assert info.usage.waiting == info.usage.refused == 10**12
    assert info.usage.oldest_s == 0.0
    assert len(info.usage.trouble) < 1_000
    assert "\x1b" not in info.usage.trouble
