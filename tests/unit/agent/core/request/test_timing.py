"""When one request's deadlines are due: second copy, patience, silence, heartbeat."""

from __future__ import annotations

import math

import pytest

from agent.core.attempts import Expectation, first_token_deadline_ms
from agent.core.half_open import HalfOpenTargets
from agent.core.hedging import hedge_after_ms
from agent.core.request.attempt import Attempt, Finding
from agent.core.request.timing import (
    EARLY_MS,
    LOOK_AGAIN_MS,
    LOOK_AGAIN_RATIO,
    RequestPolicy,
    RequestTimers,
)
from protos.domain.trace import AttemptPurpose
from tests.support.router_states import attempt_at, request_context, router_state

POLICY = RequestPolicy(heartbeat_ms=5_000.0, stream_idle_ms=120_000.0)
#: Learned: late at 1,200 ms, when the other would be sooner than what it may still take.
EXPECTED = Expectation(200.0, 300.0, True, 10_000.0, 1_000.0)
LATE_MS = 1_200.0
ALONE = Expectation(200.0, 300.0, True, 10_000.0, None)
BEGAN_MS = 50.0


def an_attempt(began_mono_ms: float = BEGAN_MS) -> Attempt:
    state = router_state()
    return attempt_at(state, request_context(state), "scl-1", began_mono_ms)


def explored(attempt: Attempt, patience_ms: float) -> Attempt:
    attempt.finding = Finding(AttemptPurpose.EXPLORE, patience_ms, math.inf, HalfOpenTargets())
    return attempt


def timers(**policy: float) -> RequestTimers:
    return RequestTimers(RequestPolicy(**policy) if policy else POLICY)  # type: ignore[arg-type]


def test_nothing_is_due_before_the_request_begins() -> None:
    assert timers().next_mono_ms == math.inf


# --- second copy and patience


def test_an_attempt_is_late_when_another_is_predicted_to_be_sooner() -> None:
    due, attempt = timers(), an_attempt()
    due.expect(attempt, EXPECTED, last=False, may_hedge=False)
    assert due.next_mono_ms == BEGAN_MS + LATE_MS == BEGAN_MS + first_token_deadline_ms(EXPECTED)
    assert not due.patience_is_due(BEGAN_MS + LATE_MS - EARLY_MS - 0.1)
    assert due.patience_is_due(BEGAN_MS + LATE_MS - EARLY_MS)
    assert not due.patience_is_due(BEGAN_MS + LATE_MS), "asked once"


def test_a_second_copy_is_due_at_the_p95_and_once() -> None:
    due, attempt = timers(), an_attempt()
    due.expect(attempt, EXPECTED, last=False, may_hedge=True)
    at_mono_ms = BEGAN_MS + hedge_after_ms(attempt.placement.chosen.prediction)
    assert due.next_mono_ms == at_mono_ms < BEGAN_MS + LATE_MS
    assert not due.hedge_is_due(at_mono_ms - EARLY_MS - 0.1)
    assert due.hedge_is_due(at_mono_ms)
    assert not due.hedge_is_due(at_mono_ms)


def test_without_another_target_no_copy_is_sent_and_the_p99_only_sets_the_next_check() -> None:
    due, attempt = timers(), an_attempt()
    due.expect(attempt, ALONE, last=False, may_hedge=True)
    assert not due.hedge_is_due(1e12)
    assert due.next_mono_ms == BEGAN_MS + LOOK_AGAIN_MS


def test_the_last_attempt_is_never_late() -> None:
    due = timers()
    due.expect(an_attempt(), EXPECTED, last=True, may_hedge=True)
    assert due.next_mono_ms == math.inf


def test_an_explored_target_is_cut_while_the_other_can_still_be_in_time() -> None:
    due, attempt = timers(), explored(an_attempt(), 400.0)
    due.expect(attempt, EXPECTED, last=False, may_hedge=False)
    assert due.next_mono_ms == BEGAN_MS + 400.0
    assert due.is_late(attempt, EXPECTED, BEGAN_MS + 400.0)


def test_lateness_is_decided_from_the_current_prediction() -> None:
    due, attempt = timers(), an_attempt()
    sooner = Expectation(200.0, 300.0, True, 10_000.0, 500.0)
    assert due.is_late(attempt, sooner, BEGAN_MS + 700.0)
    assert not due.is_late(attempt, EXPECTED, BEGAN_MS + 700.0)
    assert due.next_mono_ms == BEGAN_MS + LATE_MS, "sooner than the next look would be"


@pytest.mark.parametrize(
    ("waited_ms", "again_ms"), [(500.0, LOOK_AGAIN_MS), (60_000.0, LOOK_AGAIN_RATIO * 60_000.0)]
)
def test_the_longer_a_request_has_waited_the_rarer_other_targets_are_searched(
    waited_ms: float, again_ms: float
) -> None:
    due, attempt = timers(), an_attempt()
    due.look_again(attempt, BEGAN_MS + waited_ms)
    assert due.next_mono_ms == BEGAN_MS + waited_ms + again_ms


def test_when_one_of_two_copies_failed_the_other_is_checked_at_once() -> None:
    due, attempt = timers(), an_attempt()
    due.expect(attempt, EXPECTED, last=False, may_hedge=True)
    due.one_left(100.0)
    assert due.patience_is_due(100.0)
    assert not due.hedge_is_due(1e12)


def test_with_a_first_token_no_other_is_asked() -> None:
    due = timers()
    due.expect(an_attempt(), EXPECTED, last=False, may_hedge=True)
    due.answering()
    assert due.next_mono_ms == math.inf


# --- silence


def test_silence_is_checked_when_the_longest_silent_attempt_reaches_the_limit() -> None:
    due, quiet, talking = timers(), an_attempt(1_000.0), an_attempt(2_000.0)
    due.begin(0.0, stream=False)
    talking.last_read_mono_ms = 50_000.0
    assert not due.silence_is_due(119_000.0)
    assert due.silence_is_due(120_000.0)
    due.checked_silence([quiet, talking], 120_000.0)
    assert due.next_mono_ms == 121_000.0
    due.checked_silence([talking], 121_000.0)
    assert due.next_mono_ms == 170_000.0


def test_a_silent_attempt_is_checked_again_after_the_same_time() -> None:
    due = timers()
    due.checked_silence([an_attempt(0.0)], 120_000.0)
    assert due.next_mono_ms == 240_000.0
    assert due.is_silent(120_000.0)
    assert not due.is_silent(118_000.0)


# --- heartbeat


def test_a_silent_stream_gets_heartbeats_at_their_interval() -> None:
    due = timers()
    due.begin(100.0, stream=True)
    assert not due.heartbeat_is_due(5_098.0)
    for at_mono_ms in (5_100.0, 10_100.0):
        assert due.next_mono_ms == at_mono_ms
        assert due.heartbeat_is_due(at_mono_ms)
        assert due.beat(None, at_mono_ms)


def test_a_flowing_stream_gets_no_heartbeat() -> None:
    due, attempt = timers(), an_attempt()
    due.begin(0.0, stream=True)
    attempt.last_read_mono_ms = 4_000.0
    assert not due.beat(attempt, 5_000.0)
    assert due.next_mono_ms == 9_000.0
    assert due.beat(attempt, 9_000.0)


@pytest.mark.parametrize(("heartbeat_ms", "stream"), [(0.0, True), (5_000.0, False)])
def test_without_a_stream_or_when_turned_off_there_are_no_heartbeats(
    heartbeat_ms: float, stream: bool
) -> None:
    due = timers(heartbeat_ms=heartbeat_ms)
    due.begin(0.0, stream=stream)
    assert not due.heartbeat_is_due(1e9)
