"""The bucket of a cut-off agent."""

from __future__ import annotations

from agent.core.rate_bucket import RateBucket


def test_a_minutes_worth_may_be_used_at_once_and_refills_evenly() -> None:
    bucket = RateBucket(60.0, 0.0)
    assert bucket.left(0.0) == 60.0
    bucket.take(60.0)
    assert bucket.left(0.0) == 0.0
    assert bucket.left(1_000.0) == 1.0
    assert bucket.left(3_600_000.0) == 60.0, "never more than a minute's worth"


def test_what_is_used_beyond_it_is_owed_and_what_is_given_back_never_fills_it_over() -> None:
    bucket = RateBucket(60.0, 0.0)
    bucket.take(90.0)
    assert bucket.left(0.0) == -30.0
    bucket.take(-500.0)
    assert bucket.left(0.0) == 60.0


def test_a_clock_that_goes_back_refills_nothing() -> None:
    bucket = RateBucket(60.0, 1_000.0)
    bucket.take(60.0)
    assert bucket.left(0.0) == 0.0
