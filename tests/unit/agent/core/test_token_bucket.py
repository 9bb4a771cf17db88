"""A limit of bytes a second."""

from __future__ import annotations

import math

from agent.core.token_bucket import TokenBucket


def test_without_a_limit_everything_is_given_at_once() -> None:
    bucket = TokenBucket(0, 4, 0.0)
    assert bucket.take(10**12, 0.0)
    assert bucket.wait_ms(10**12, 0.0) == 0.0


def test_a_second_holds_what_the_limit_says() -> None:
    bucket = TokenBucket(100, 10, 0.0)
    assert bucket.take(100, 0.0)
    assert not bucket.take(10, 50.0)
    assert bucket.wait_ms(10, 50.0) == 50.0
    assert bucket.take(10, 100.0)


def test_what_is_not_used_is_saved_for_a_second_only() -> None:
    bucket = TokenBucket(100, 10, 0.0)
    assert bucket.take(100, 3_600_000.0)
    assert not bucket.take(1, 3_600_000.0)


def test_a_limit_below_one_piece_lets_a_piece_through_after_its_time() -> None:
    bucket = TokenBucket(10, 100, 0.0)
    assert bucket.take(100, 0.0)
    assert bucket.wait_ms(100, 0.0) == 10_000.0
    assert bucket.take(100, 10_000.0)


def test_what_can_never_be_had_is_said_to_take_for_ever() -> None:
    assert TokenBucket(10, 100, 0.0).wait_ms(101, 0.0) == math.inf


def test_what_was_not_used_is_given_back() -> None:
    bucket = TokenBucket(100, 10, 0.0)
    assert bucket.take(100, 0.0)
    bucket.give_back(60)
    assert bucket.take(60, 0.0)
