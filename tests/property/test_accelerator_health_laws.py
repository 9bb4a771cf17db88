"""Laws of the health rules under any sequence of readings, failures and resumes."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from agent.core.accelerator_health import (
    MAX_FAULTS,
    AcceleratorHealth,
    HealthPolicy,
    OperatorResumed,
    ReaderFailed,
    Sampled,
    Severity,
    Ticked,
    active_fatal,
)
from agent.core.accelerators import AcceleratorEvent, Reading, readings_from_json

POLICY = HealthPolicy()

events = st.builds(
    AcceleratorEvent,
    st.sampled_from(["xid", "ras"]),
    st.sampled_from([3, 13, 31, 48, 63, 79, 94, 119, 999]),
)
readings = st.builds(
    Reading,
    id=st.sampled_from(["a", "b", "c"]),
    index=st.just(0),
    name=st.just("stub"),
    clock_reasons=st.lists(
        st.sampled_from(["power_cap", "thermal_hardware", "hardware"]), max_size=2
    ).map(tuple),
    ecc_uncorrected=st.none() | st.integers(0, 3),
    lost=st.booleans(),
    events=st.lists(events, max_size=2).map(tuple),
)
samples = st.lists(readings, max_size=3, unique_by=lambda one: one.id).map(Sampled)
happenings = (
    samples | st.just(Ticked()) | st.just(OperatorResumed()) | st.just(ReaderFailed("dead"))
)
histories = st.lists(st.tuples(happenings, st.floats(0, 40_000)), max_size=40)
healthy = st.builds(
    Reading,
    id=st.sampled_from(["a", "b"]),
    index=st.just(0),
    name=st.just("stub"),
    utilisation_ratio=st.floats(0, 1),
    temperature_celsius=st.floats(20, 80),
    ecc_corrected=st.integers(0, 1_000),
    ecc_uncorrected=st.just(0),
)


@given(histories)
def test_a_fatal_hardware_fault_is_cleared_only_by_a_resume_after_it_is_gone(history):
    health, now = AcceleratorHealth(POLICY, 0.0), 0.0
    for event, wait_ms in history:
        now += wait_ms
        before = {(one.accelerator, one.kind, one.code): one for one in health.faults}
        health.handle(event, now)
        after = {(one.accelerator, one.kind, one.code) for one in health.faults}
        for key in before.keys() - after:
            gone = before[key]
            if gone.latched:
                assert isinstance(event, OperatorResumed)
                assert not gone.active
        assert len(health.faults) <= MAX_FAULTS
        fatal = any(one.severity is Severity.FATAL for one in health.faults)
        assert bool(health.drain_reason) == fatal


@given(st.lists(st.lists(healthy, max_size=2, unique_by=lambda one: one.id), max_size=20))
def test_healthy_readings_raise_no_fault(history):
    """Every accelerator stays present: one that goes missing is not healthy."""
    health, present = AcceleratorHealth(POLICY, 0.0), {}
    for at, found in enumerate(history):
        present |= {one.id: one for one in found}
        health.handle(Sampled(list(present.values())), at * 1_000.0)
        assert health.faults == ()


@given(histories)
def test_a_resume_never_clears_what_is_still_there(history):
    health, now = AcceleratorHealth(POLICY, 0.0), 0.0
    for event, wait_ms in history:
        now += wait_ms
        health.handle(event, now)
    before = active_fatal(health.faults)
    health.handle(OperatorResumed(), now)
    assert active_fatal(health.faults) == before


@given(histories)
def test_the_same_history_gives_the_same_faults(history):
    found = []
    for _ in range(2):
        health, now = AcceleratorHealth(POLICY, 0.0), 0.0
        for event, wait_ms in history:
            now += wait_ms
            health.handle(event, now)
        found.append(health.faults)
    assert found[0] == found[1]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=20,
)


@given(json_values | st.fixed_dictionaries({"accelerators": st.lists(json_values, max_size=3)}))
def test_any_answer_of_a_child_is_read_or_refused(answer):
    with contextlib.suppress(ValueError):
        readings_from_json(answer)
