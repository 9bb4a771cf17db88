"""What one attempt means for the next."""

from __future__ import annotations

import pytest

from agent.core.attempts import (
    LATE_AT_LEAST_MS,
    LATE_FACTOR,
    Trial,
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


def patience(*, stream: bool = True, last: bool = False, predicted_ms: float = 1_000.0):
    return next_patience(
        stream=stream,
        last=last,
        predicted_ttft_ms_p99=predicted_ms,
        idle_ms=120_000.0,
        response_ms=600_000.0,
    )


def test_a_stream_is_late_when_its_prediction_is_exceeded_several_times() -> None:
    assert patience(predicted_ms=1_000.0) == (LATE_FACTOR * 1_000.0, 120_000.0)


def test_a_small_prediction_does_not_make_us_hasty() -> None:
    assert patience(predicted_ms=5.0)[0] == LATE_AT_LEAST_MS


def test_a_hopeless_prediction_waits_no_longer_than_silence_may_last() -> None:
    assert patience(predicted_ms=1e9)[0] == 120_000.0


def test_the_last_attempt_is_not_cut_off() -> None:
    assert patience(last=True, predicted_ms=1.0) == (120_000.0, 120_000.0)


@pytest.mark.parametrize("last", [False, True])
def test_without_a_stream_only_the_whole_answer_has_a_deadline(last: bool) -> None:
    assert patience(stream=False, last=last) == (600_000.0, 600_000.0)
