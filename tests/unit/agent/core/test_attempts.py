"""Whether an attempt is final or replaced, and when it is late."""

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
def test_a_status_that_is_an_answer_is_passed_on(status: int) -> None:
    assert verdict_of_status(status).answered


@pytest.mark.parametrize("status", [500, 502, 504, 599])
def test_an_engine_error_is_replaced_and_marked_as_one(status: int) -> None:
    verdict = verdict_of_status(status)
    assert not verdict.answered
    assert verdict.engine_error
    assert str(status) in verdict.reason


@pytest.mark.parametrize("status", [409, 503])
def test_a_refusal_is_replaced_and_is_no_failure_of_the_engine(status: int) -> None:
    verdict = verdict_of_status(status)
    assert not verdict.answered
    assert not verdict.engine_error


def test_a_missing_answer_keeps_its_reason() -> None:
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


def test_a_target_is_late_once_the_other_is_expected_sooner() -> None:
    assert first_token_deadline_ms(expected(other_ms=1_000.0)) == 1_200.0


def test_no_target_is_late_before_its_p99_however_soon_the_other_is() -> None:
    assert first_token_deadline_ms(expected(other_ms=1.0)) == 300.0


def test_a_target_is_replaced_while_the_other_can_still_keep_the_budget() -> None:
    assert first_token_deadline_ms(expected(other_ms=400.0, budget_left_ms=800.0)) == 400.0
    assert first_token_deadline_ms(expected(other_ms=400.0, budget_left_ms=500.0)) == 300.0


def test_a_budget_that_cannot_be_kept_does_not_make_replacement_earlier() -> None:
    assert first_token_deadline_ms(expected(other_ms=400.0, budget_left_ms=350.0)) == 600.0


def test_a_small_prediction_still_gets_a_minimum_time() -> None:
    assert first_token_deadline_ms(expected(1.0, 2.0, other_ms=1.0)) == LATE_AT_LEAST_MS


def test_a_guess_gets_several_times_its_p99_and_at_least_seconds() -> None:
    guess = expected(p99_ms=1_000.0, learned=False)
    assert first_token_deadline_ms(guess) == GUESS_LATE_FACTOR * 1_000.0
    assert first_token_deadline_ms(expected(p99_ms=5.0, learned=False)) == GUESS_LATE_AT_LEAST_MS


def test_a_guess_waits_longer_if_the_other_would_be_later() -> None:
    guess = expected(p50_ms=100.0, p99_ms=200.0, other_ms=5_000.0, learned=False)
    assert first_token_deadline_ms(guess) == 5_100.0


def test_without_another_target_there_is_no_deadline() -> None:
    with pytest.raises(AssertionError):
        first_token_deadline_ms(expected(other_ms=None))


_MS = st.floats(min_value=0.0, max_value=1e6)


@given(p50_ms=_MS, spread_ms=_MS, other_ms=_MS, budget_ms=st.floats(-1e6, 1e6), more_ms=_MS)
def test_a_p99_is_always_waited_for_and_more_budget_that_can_be_kept_never_shortens_it(
    p50_ms: float, spread_ms: float, other_ms: float, budget_ms: float, more_ms: float
) -> None:
    def deadline_ms(budget_left_ms: float) -> float:
        return first_token_deadline_ms(
            expected(p50_ms, p50_ms + spread_ms, other_ms=other_ms, budget_left_ms=budget_left_ms)
        )

    assert deadline_ms(budget_ms) >= p50_ms + spread_ms
    if budget_ms > other_ms:
        assert deadline_ms(budget_ms + more_ms) >= deadline_ms(budget_ms)
