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
    Verdict,
    first_token_deadline_ms,
    verdict_of_status,
)


@pytest.mark.parametrize("status", [200, 400, 404, 422, 429])
def test_an_answer_is_passed_on_whatever_it_says(status: int) -> None:
    assert verdict_of_status(status).answered


@pytest.mark.parametrize("status", [500, 502, 504, 599])
def test_an_engines_own_failure_is_replaced_and_remembered_as_one(status: int) -> None:
    verdict = verdict_of_status(status)
    assert not verdict.answered
    assert verdict.engine_error
    assert str(status) in verdict.reason


@pytest.mark.parametrize("status", [409, 503])
def test_a_refusal_is_replaced_and_is_no_failure_of_the_engine(status: int) -> None:
    verdict = verdict_of_status(status)
    assert not verdict.answered
    assert not verdict.engine_error


def test_no_answer_at_all_keeps_its_reason() -> None:
    verdict = Verdict.failed("connection refused")
    assert (verdict.answered, verdict.engine_error, verdict.reason) == (
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


def test_a_target_is_late_once_the_other_would_be_sooner_than_what_it_may_still_take() -> None:
    assert first_token_deadline_ms(expected(other_ms=1_000.0)) == 1_200.0


def test_no_target_is_late_before_its_p99_however_soon_the_other_is() -> None:
    assert first_token_deadline_ms(expected(other_ms=1.0)) == 300.0


def test_the_last_moment_at_which_the_other_keeps_the_budget_is_not_missed() -> None:
    assert first_token_deadline_ms(expected(other_ms=400.0, budget_left_ms=800.0)) == 400.0
    assert first_token_deadline_ms(expected(other_ms=400.0, budget_left_ms=500.0)) == 300.0


def test_a_budget_that_is_cannot_be_kept_hurries_no_replacement() -> None:
    assert first_token_deadline_ms(expected(other_ms=400.0, budget_left_ms=350.0)) == 600.0


def test_a_small_prediction_still_gets_a_least_time() -> None:
    assert first_token_deadline_ms(expected(1.0, 2.0, other_ms=1.0)) == LATE_AT_LEAST_MS


def test_a_guess_is_given_several_times_its_p99_and_seconds_at_least() -> None:
    guess = expected(p99_ms=1_000.0, learned=False)
    assert first_token_deadline_ms(guess) == GUESS_LATE_FACTOR * 1_000.0
    assert first_token_deadline_ms(expected(p99_ms=5.0, learned=False)) == GUESS_LATE_AT_LEAST_MS


def test_a_guess_waits_longer_still_where_the_other_would_be_later_than_that() -> None:
    guess = expected(p50_ms=100.0, p99_ms=200.0, other_ms=5_000.0, learned=False)
    assert first_token_deadline_ms(guess) == 5_100.0


def test_where_no_other_can_be_asked_no_deadline_exists() -> None:
    with pytest.raises(AssertionError):
        first_token_deadline_ms(expected(other_ms=None))


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
