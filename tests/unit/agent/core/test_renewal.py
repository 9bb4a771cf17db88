"""When the node's certificate is renewed."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.renewal import (
    SHORTEST_PAUSE_MS,
    SHORTEST_RETRY_MS,
    RenewalMachine,
    renewal_due_unix_ms,
)
from protos.domain.certificates import DAY_MS, NODE_LIFE_MS

ISSUED = 1_800_000_000_000
NOT_AFTER = ISSUED + NODE_LIFE_MS
MINUTE_MS = 60_000


def test_renewal_is_due_about_a_day_after_issue_and_jittered() -> None:
    assert renewal_due_unix_ms(NOT_AFTER, ISSUED, 0.0) == ISSUED + int(0.9 * DAY_MS)
    assert renewal_due_unix_ms(NOT_AFTER, ISSUED, 1.0) == ISSUED + int(1.1 * DAY_MS)
    late = ISSUED + 3 * DAY_MS
    assert renewal_due_unix_ms(NOT_AFTER, late, 0.5) == late
    ended = NOT_AFTER + DAY_MS
    assert renewal_due_unix_ms(NOT_AFTER, ended, 0.5) == ended


@pytest.mark.parametrize("days", [2, 5, 12, 30, 31])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_clock_that_was_wrong_at_enrolment_renews_within_a_day_of_being_right(
    days: int, sign: int
) -> None:
    """The machine is asked each minute; at the end the clock is right, and no deadline is left."""
    machine = RenewalMachine(0.5)
    issued_by_wrong_clock = ISSUED + sign * days * DAY_MS
    not_after = issued_by_wrong_clock + NODE_LIFE_MS
    for minute in range(10):  # under the wrong clock: certificate and clock agree
        assert not machine.due(not_after, issued_by_wrong_clock + minute * MINUTE_MS, 0.0)
    renewed_after_minutes = next(
        minute
        for minute in range(2 * 24 * 60)
        if machine.due(not_after, ISSUED + minute * MINUTE_MS, minute * MINUTE_MS)
    )
    assert renewed_after_minutes <= 1.1 * 24 * 60


@pytest.mark.parametrize("days", [2, 30, 31])
def test_a_host_that_started_with_a_wrong_clock_does_not_sleep_by_it(days: int) -> None:
    machine = RenewalMachine(0.5)
    assert not machine.due(NOT_AFTER, ISSUED - 10 * MINUTE_MS, 0.0)
    assert machine.due(NOT_AFTER, ISSUED - days * DAY_MS, 0.0), "issued in the future: at once"
    assert machine.due(NOT_AFTER, ISSUED + days * DAY_MS, 0.0)


def test_a_failure_is_retried_after_a_pause_that_grows() -> None:
    machine, now = RenewalMachine(0.5), ISSUED + 2 * DAY_MS
    pauses, mono_ms = [], 0.0
    for _ in range(8):
        assert machine.due(NOT_AFTER, now, mono_ms)
        machine.failed("full", mono_ms, 1.0)
        begun = mono_ms
        while not machine.due(NOT_AFTER, now, mono_ms):
            mono_ms += 1_000.0
        pauses.append(mono_ms - begun)
    assert pauses == sorted(pauses)
    assert pauses[0] >= SHORTEST_RETRY_MS
    assert pauses[-1] == 1_800_000.0, "at most half an hour"
    assert (machine.failures, machine.last_error) == (8, "full")
    machine.renewed(mono_ms, 0.25)
    assert (machine.failures, machine.last_error, machine.jitter) == (0, "", 0.25)


@given(
    offsets=st.lists(st.integers(-40 * DAY_MS, 40 * DAY_MS), min_size=1, max_size=50),
    draw=st.floats(0, 1),
)
def test_no_clock_makes_renewals_a_storm(offsets: list[int], draw: float) -> None:
    """However the clock jumps, two renewals are ten minutes apart."""
    machine, mono_ms, renewed_at = RenewalMachine(draw), 0.0, []
    for offset in offsets:
        mono_ms += MINUTE_MS
        if machine.due(NOT_AFTER, ISSUED + offset, mono_ms):
            machine.renewed(mono_ms, draw)
            renewed_at.append(mono_ms)
    gaps = [later - earlier for earlier, later in itertools.pairwise(renewed_at)]
    assert all(gap >= SHORTEST_PAUSE_MS for gap in gaps)
