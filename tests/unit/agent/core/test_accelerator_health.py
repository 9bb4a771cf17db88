"""Which readings drain a node, which only warn, and when each fault is cleared."""

from __future__ import annotations

import pytest

from agent.core.accelerator_health import (
    APPLICATION_XIDS,
    FATAL_XIDS,
    MAX_FAULTS,
    AcceleratorHealth,
    FaultKind,
    HealthPolicy,
    OperatorResumed,
    ReaderFailed,
    ReaderUnusable,
    Sampled,
    Severity,
    Ticked,
    active_fatal,
)
from agent.core.accelerators import AcceleratorEvent, Reading

POLICY = HealthPolicy(warn_after_ms=10_000, clear_after_ms=30_000, blind_after_ms=5_000)


def reading(identity: str = "a", index: int = 0, **fields):
    return Reading(identity, index, "stub", **fields)


def xid(code: int) -> Sampled:
    return Sampled([reading(events=(AcceleratorEvent("xid", code),))])


FINE = Sampled([reading(ecc_uncorrected=0)])


def watched(*events, policy: HealthPolicy = POLICY, step_ms: float = 1_000) -> AcceleratorHealth:
    """One event a second from second 0 on."""
    health = AcceleratorHealth(policy, 0.0)
    for at, event in enumerate(events):
        health.handle(event, at * step_ms)
    return health


def kinds(health: AcceleratorHealth) -> list[tuple[FaultKind, Severity]]:
    return [(fault.kind, fault.severity) for fault in health.faults]


@pytest.mark.parametrize("code", sorted(FATAL_XIDS))
def test_a_fatal_xid_drains_at_once_and_is_named(code):
    health = watched(FINE, xid(code))
    assert kinds(health) == [(FaultKind.XID, Severity.FATAL)]
    assert health.drain_reason == f"GPU 0 (a): XID {code} ({FATAL_XIDS[code]})"


@pytest.mark.parametrize("code", sorted(APPLICATION_XIDS))
def test_an_xid_caused_by_an_application_is_ignored(code):
    assert watched(xid(code)).faults == ()


def test_an_unknown_xid_warns_and_is_cleared_later():
    health = watched(xid(63))
    assert kinds(health) == [(FaultKind.XID, Severity.WARNING)]
    assert health.drain_reason == ""
    health.handle(FINE, 29_999)
    assert health.faults
    health.handle(FINE, 30_000)
    assert health.faults == ()


def test_a_gpu_reported_lost_or_missing_drains():
    two = Sampled([reading("a"), reading("b", 1)])
    said = watched(two, Sampled([reading("a"), reading("b", 1, lost=True)]))
    missing = watched(two, Sampled([reading("a")]))
    for health in (said, missing):
        assert kinds(health) == [(FaultKind.LOST, Severity.FATAL)]
        assert health.drain_reason == "GPU 1 (b) is lost"


def test_memory_errors_drain_when_they_rise_and_only_warn_when_older_than_the_agent():
    risen = watched(FINE, Sampled([reading(ecc_uncorrected=1)]))
    assert kinds(risen) == [(FaultKind.ECC_UNCORRECTED, Severity.FATAL)]
    old = watched(*[Sampled([reading(ecc_uncorrected=3)])] * 60)
    assert kinds(old) == [(FaultKind.ECC_UNCORRECTED, Severity.WARNING)]
    assert "from before this agent" in old.faults[0].detail
    old.handle(Sampled([reading(ecc_uncorrected=4)]), 61_000)
    assert kinds(old) == [(FaultKind.ECC_UNCORRECTED, Severity.FATAL)]


def test_a_driver_reset_by_ras_drains():
    event = AcceleratorEvent("ras", 3, "reset")
    health = watched(Sampled([reading(events=(event,))]))
    assert kinds(health) == [(FaultKind.RAS, Severity.FATAL)]


def test_a_fatal_fault_stays_until_it_is_gone_and_an_operator_resumes():
    health = watched(FINE, xid(79))
    health.handle(OperatorResumed(), 2_000)
    assert [fault.kind for fault in active_fatal(health.faults)] == [FaultKind.XID]
    for second in range(3, 3_600):
        health.handle(FINE, second * 1_000)
    assert health.drain_reason, "silence proves nothing"
    assert active_fatal(health.faults) == []
    assert health.handle(OperatorResumed(), 3_600_000)
    assert health.faults == ()


def test_a_short_throttle_is_not_reported_and_a_long_one_warns_until_cleared():
    hot = Sampled([reading(clock_reasons=("thermal_hardware", "power_cap"))])
    assert watched(*[hot] * 10, FINE).faults == ()
    health = watched(*[hot] * 11)
    assert kinds(health) == [
        (FaultKind.POWER_THROTTLE, Severity.WARNING),
        (FaultKind.THERMAL_THROTTLE, Severity.WARNING),
    ]
    health.handle(FINE, 20_000)
    assert len(health.faults) == 2
    health.handle(FINE, 40_000)
    assert health.faults == ()


def test_a_stalled_reader_warns_at_once_then_drains_and_clears_by_itself():
    health = watched(FINE, ReaderFailed("no answer within 3000 ms"))
    assert kinds(health) == [(FaultKind.READER, Severity.WARNING)]
    health.handle(Ticked(), 5_000)
    assert kinds(health) == [(FaultKind.READER, Severity.FATAL)]
    assert "no answer within 3000 ms" in health.drain_reason
    health.handle(FINE, 6_000)
    assert health.drain_reason, "one answer is not health"
    health.handle(FINE, 35_000)
    assert health.faults == ()


def test_a_failed_reader_on_a_host_without_accelerators_never_drains():
    policy = HealthPolicy(blind_is_fatal=False)
    health = watched(*[ReaderFailed("dead")] * 600, policy=policy)
    assert kinds(health) == [(FaultKind.READER, Severity.WARNING)]


def test_faults_are_bounded_and_a_fatal_one_replaces_a_warning():
    health = AcceleratorHealth(POLICY, 0.0)
    for code in range(1_000, 1_000 + 2 * MAX_FAULTS):
        health.handle(xid(code), 0.0)
    assert len(health.faults) == MAX_FAULTS
    health.handle(xid(79), 0.0)
    assert len(health.faults) == MAX_FAULTS
    assert "XID 79" in health.drain_reason


def test_handle_returns_whether_anything_changed():
    health = AcceleratorHealth(POLICY, 0.0)
    assert not health.handle(FINE, 0.0)
    assert health.handle(xid(79), 1.0)
    assert not health.handle(FINE, 2.0)
    assert health.handle(FINE, 31_000.0), "it is no longer seen"


def test_a_device_file_without_the_vendors_library_warns_and_serves():
    missing = ReaderUnusable("nvidia-ml-py is not installed", missing=True)
    health = watched(*[missing] * 20)
    assert kinds(health) == [(FaultKind.READER, Severity.WARNING)]
    assert health.drain_reason == ""


def test_a_library_that_an_upgrade_removed_warns_and_serves():
    missing = ReaderUnusable("nvidia-ml-py is not installed", missing=True)
    health = watched(FINE, *[missing] * 20)
    assert kinds(health) == [(FaultKind.READER, Severity.WARNING)]


def test_a_driver_that_never_answered_warns_and_one_that_stopped_answering_drains():
    refused = ReaderUnusable("NVML: driver/library version mismatch")
    never, stopped = watched(*[refused] * 20), watched(FINE, *[refused] * 20)
    assert kinds(never) == [(FaultKind.READER, Severity.WARNING)]
    assert kinds(stopped) == [(FaultKind.READER, Severity.FATAL)]


def test_a_reader_that_stalls_drains_from_the_start():
    assert kinds(watched(*[ReaderFailed("no answer")] * 20)) == [(FaultKind.READER, Severity.FATAL)]
