"""One attempt: its token times, and the result of a trial."""

from __future__ import annotations

import math

import pytest

from agent.core.half_open import HalfOpenTargets
from agent.core.request.attempt import Finding, TokenTimes
from protos.domain.trace import MAX_TOKEN_TIMES, AttemptPurpose
from tests.support.router_states import attempt_at, request_context, router_state


def test_more_tokens_than_are_kept_are_counted_and_still_passed_on() -> None:
    passed_on: list[tuple[int, float]] = []
    tokens = TokenTimes(lambda count, now: passed_on.append((count, now)))
    tokens.count(MAX_TOKEN_TIMES - 1, 1.0)
    tokens.count(3, 2.0)
    tokens.count(1, 3.0)
    tokens.count(0, 4.0)
    assert (len(tokens.times_mono_ms), tokens.left_out) == (MAX_TOKEN_TIMES, 3)
    assert passed_on == [(MAX_TOKEN_TIMES - 1, 1.0), (3, 2.0), (1, 3.0), (0, 4.0)]


def test_tokens_of_one_read_came_at_one_time() -> None:
    tokens = TokenTimes(None)
    tokens.count(1, 5.0)
    tokens.count(2, 7.0)
    assert list(tokens.times_mono_ms) == [5.0, 7.0, 7.0]


def test_an_attempt_knows_its_node_and_has_read_nothing_at_first() -> None:
    state = router_state()
    attempt = attempt_at(state, request_context(state), "scl-1")
    assert attempt.node_id == "scl-1"
    assert attempt.last_read_mono_ms == -math.inf
    assert (attempt.first_token_mono_ms, attempt.place, attempt.learned) == (None, None, False)


@pytest.mark.parametrize(
    ("first_token_mono_ms", "tried_again"), [(500.0, True), (501.0, False), (None, False)]
)
def test_a_trial_succeeds_only_with_a_first_token_within_the_budget(
    first_token_mono_ms: float | None, tried_again: bool
) -> None:
    state = router_state()
    candidate = attempt_at(state, request_context(state), "scl-1").placement.chosen
    half_open = HalfOpenTargets()
    assert half_open.choose_trial([candidate], 1_000.0, 0.0) is candidate
    finding = Finding(AttemptPurpose.TRIAL, math.inf, 500.0, half_open, candidate)
    finding.ended(first_token_mono_ms, 600.0)
    assert (half_open.choose_trial([candidate], 1_000.0, 600.0) is candidate) is tried_again


def test_an_exploration_tries_no_half_open_target() -> None:
    half_open = HalfOpenTargets()
    Finding(AttemptPurpose.EXPLORE, 100.0, 500.0, half_open).ended(None, 600.0)
    assert len(half_open) == 0
