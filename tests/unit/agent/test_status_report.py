"""The agent's messages about itself to the coordinator."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.artifacts.objects import PullProgress
from agent.clock import now_mono_ms
from agent.core.accelerator_health import Fault, FaultKind, Severity
from agent.core.accelerators import Reading
from agent.core.cold_start import ColdPath, ColdStart
from agent.gpu.watch import GpuWatch
from protos.domain.hardware import NodeHardware
from protos.domain.resources import DesiredReplica, ModelSource, Residency, ResourceType
from protos.v1 import fleet_pb2
from tests.support.assembled_agent import NODE_ID, assembled_agent

if TYPE_CHECKING:
    from pathlib import Path

    from agent.status_report import StatusReport

LOST = Fault("GPU-1", FaultKind.LOST, Severity.FATAL, 0, "x" * 1_000, 0.0)


@pytest.fixture
def report(tmp_path: Path) -> StatusReport:
    return assembled_agent(tmp_path).report


@pytest.fixture
def busy_report(report: StatusReport, monkeypatch: pytest.MonkeyPatch) -> StatusReport:
    """Return the report of a node on which every part has something to say."""
    monkeypatch.setattr(GpuWatch, "faults", property(lambda _: (LOST,)))
    report.gpu.readings = (Reading("GPU-1", 0, "H100", lost=True),)
    wanted = DesiredReplica("acme/chat@1", ModelSource.EXTERNAL, (), 8_192)
    report.replicas.set_desired({wanted.model: wanted})
    report.live.probed("iad-1", 3.0, now_mono_ms())
    report.live.request_started(NODE_ID, now_mono_ms())
    report.gateway.in_flight = 2
    report.gateway.demand.note("small", now_mono_ms())
    report.peer_port.stats.in_flight = 3
    report.drain_state.by_operator = True
    report.live.overclaimed("iad-1")
    report.replicas.cold_starts.add(ColdStart(ColdPath.SWAP, Residency.PEER, 10, 9.0))
    current = replace(report.identity, renewal_error=lambda: "disk full")
    return replace(report, identity=current, clock_offset_ms=lambda: -7.0)


def test_every_field_of_a_status_is_reported_but_the_number_that_the_link_gives(
    busy_report: StatusReport,
) -> None:
    reported = {field.name for field, _ in busy_report.status().ListFields()}
    assert reported == {field.name for field in fleet_pb2.Status.DESCRIPTOR.fields} - {"seq"}


def test_every_field_of_a_hello_is_reported(report: StatusReport) -> None:
    capacity = NodeHardware("cuda", 72_000_000_000, "0.32.0", 8, 32, 1)
    hello = replace(report, capacity=lambda: capacity).hello()
    reported = {field.name for field, _ in hello.ListFields()}
    assert reported == {field.name for field in fleet_pb2.Hello.DESCRIPTOR.fields}


def test_a_host_without_engines_says_that_it_takes_no_model(report: StatusReport) -> None:
    hello = report.hello()
    assert (hello.accelerator_kind, hello.weights_memory_bytes, hello.max_engines) == ("", 0, 0)


def test_the_engines_requests_are_those_of_peers_and_of_own_clients(
    busy_report: StatusReport,
) -> None:
    status = busy_report.status()
    assert status.in_flight_requests == 2
    assert status.engine_in_flight_requests == 4


def test_long_texts_are_cut(busy_report: StatusReport) -> None:
    (fault,) = busy_report.status().faults
    assert len(fault.detail) == 300


def test_a_version_of_each_table_is_reported(report: StatusReport) -> None:
    assert len(report.status().have) == len(report.hello().have) == len(ResourceType)


def test_a_pull_is_reported_with_its_progress_and_its_trouble(
    report: StatusReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = DesiredReplica("acme/chat@1", ModelSource.EXTERNAL, (), 8_192)
    report.replicas.set_desired({wanted.model: wanted})
    pull = PullProgress(3, 10, "the disk is full")
    monkeypatch.setattr(report.objects, "progress", lambda: {wanted.model: pull})
    (replica,) = report.status().replicas
    assert (replica.pulled_bytes, replica.total_bytes) == (3, 10)
    assert replica.error == "the disk is full"


def test_the_disk_is_reported(report: StatusReport) -> None:
    disk = report.status().disk
    assert disk.quota_bytes > 0
    assert disk.used_bytes == disk.pinned_bytes == 0
