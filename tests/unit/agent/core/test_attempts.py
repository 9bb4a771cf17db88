"""What one attempt means for the next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.attempts import (
    GUESS_LATE_AT_LEAST_MS,
    GUESS_LATE_FACTOR,
    LATE_AT_LEAST_MS,
    Expectation,
    Trial,
    first_token_deadline_ms,
    next_patience,
    verdict_of_status,
)


@pytest.mark.parametrize("status", [200, 400, 404, 422, 429])
def test_an_answer_is_passed_on_whatever_it_says(status: int) -> None:
    assert verdict_of_status(status).answered


@pytest.mark.parametrize("status", [500, 502, 504, 599])
def test_an_engines_own_failure_is_replaced_and_remembered_as_one(status: int) -> None:
    trial = verdict_of_status(status)
    assert not trial.answered
    assert trial.engine_error
    assert str(status) in trial.reason


@pytest.mark.parametrize("status", [409, 503])
def test_a_refusal_is_replaced_and_is_no_failure_of_the_engine(status: int) -> None:
    trial = verdict_of_status(status)
    assert not trial.answered
    assert not trial.engine_error


def test_no_answer_at_all_keeps_its_reason() -> None:
    trial = Trial.failed("connection refused")
    assert (trial.answered, trial.engine_error, trial.reason) == (
        False,
        False,
        "connection refused",
    )


def expected(
    p50_ms: float = 200.0,
    p99_ms: float = 300.0,
    *,
    other_ms: float | None = 150.0,
    learned: bool = True,
    budget_left_ms: float = 10_000.0,
):
    return Expectation(p50_ms, p99_ms, learned, budget_left_ms, other_ms)


def patience(expectation: Expectation, *, stream: bool = True):
    expected_of = expectation if stream else None
    return next_patience(expected_of, idle_ms=120_000.0, response_ms=600_000.0)


def test_a_stream_is_late_once_the_other_would_be_sooner_than_what_it_may_still_take() -> None:
    assert patience(expected(other_ms=1_000.0)) == (1_200.0, 120_000.0)


def test_no_target_is_late_before_its_p99_however_soon_the_other_is() -> None:
    assert first_token_deadline_ms(expected(other_ms=1.0)) == 300.0


def test_the_last_moment_at_which_the_other_keeps_the_budget_is_not_missed() -> None:
    assert first_token_deadline_ms(expected(other_ms=400.0, budget_left_ms=800.0)) == 400.0
    assert first_token_deadline_ms(expected(other_ms=400.0, budget_left_ms=500.0)) == 300.0


def test_a_budget_that_is_lost_anyway_hurries_nobody() -> None:
    assert first_token_deadline_ms(expected(other_ms=400.0, budget_left_ms=350.0)) == 600.0


def test_a_small_prediction_does_not_make_us_hasty() -> None:
    assert first_token_deadline_ms(expected(1.0, 2.0, other_ms=1.0)) == LATE_AT_LEAST_MS


def test_a_guess_is_given_several_times_its_p99_and_seconds_at_least() -> None:
    guess = expected(p99_ms=1_000.0, learned=False)
    assert first_token_deadline_ms(guess) == GUESS_LATE_FACTOR * 1_000.0
    assert first_token_deadline_ms(expected(p99_ms=5.0, learned=False)) == GUESS_LATE_AT_LEAST_MS


def test_a_hopeless_prediction_waits_no_longer_than_silence_may_last() -> None:
    assert patience(expected(p99_ms=1e9))[0] == 120_000.0


def test_the_last_attempt_is_not_cut_off() -> None:
    assert patience(expected(p99_ms=1.0, other_ms=None)) == (120_000.0, 120_000.0)


@pytest.mark.parametrize("other_ms", [None, 1.0])
def test_without_a_stream_only_the_whole_answer_has_a_deadline(other_ms: float | None) -> None:
    assert patience(expected(other_ms=other_ms), stream=False) == (600_000.0, 600_000.0)


_MS = st.floats(min_value=0.0, max_value=1e6)


@given(p50_ms=_MS, spread_ms=_MS, other_ms=_MS, budget_ms=st.floats(-1e6, 1e6), more_ms=_MS)
def test_more_budget_never_hurries_unless_it_can_be_kept_and_a_p99_is_always_waited_for(
    p50_ms: float, spread_ms: float, other_ms: float, budget_ms: float, more_ms: float
) -> None:
    def deadline_ms(budget_left_ms: float) -> float:
        return first_token_deadline_ms(
            expected(p50_ms, p50_ms + spread_ms, other_ms=other_ms, budget_left_ms=budget_left_ms)
        )

    assert deadline_ms(budget_ms) >= p50_ms + spread_ms
    if budget_ms > other_ms:
        assert deadline_ms(budget_ms + more_ms) >= deadline_ms(budget_ms)
