"""Token buckets: burst, average, bounded number of keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.rate_limit import RateLimit


def test_a_burst_then_the_average():
    limit = RateLimit(per_s=2.0, burst=3)
    assert [limit.take("a", 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert limit.take("a", 0.0) == pytest.approx(0.5)
    assert limit.take("a", 499.0) > 0.0
    assert limit.take("a", 500.0) == 0.0


def test_keys_do_not_share():
    limit = RateLimit(per_s=1.0, burst=1)
    assert limit.take("a", 0.0) == 0.0
    assert limit.take("b", 0.0) == 0.0
    assert limit.take("a", 0.0) > 0.0


def test_over_the_limit_the_longest_idle_key_is_dropped():
    limit = RateLimit(per_s=1.0, burst=1, max_keys=2)
    for key in ("a", "b", "a", "c"):
        limit.take(key, 0.0)
    assert len(limit) == 2
    assert limit.take("a", 0.0) > 0.0  # still known: b was the quietest


@given(
    gaps_ms=st.lists(st.floats(-50.0, 2_000.0), max_size=200),
    per_s=st.floats(0.1, 50.0),
    burst=st.integers(1, 20),
)
def test_never_more_than_burst_and_average(gaps_ms, per_s, burst):
    limit = RateLimit(per_s=per_s, burst=burst)
    now_mono_ms = 0.0
    passed_ms = 0.0
    admitted = 0
    for gap_ms in gaps_ms:
        before_ms = now_mono_ms
        now_mono_ms += gap_ms
        passed_ms += max(0.0, now_mono_ms - before_ms)
        wait_s = limit.take("a", now_mono_ms)
        assert wait_s >= 0.0
        admitted += wait_s == 0.0
    assert admitted <= burst + passed_ms / 1_000 * per_s + 1e-6


def test_what_is_given_back_is_admitted_again_and_never_more_than_a_burst():
    limit = RateLimit(per_s=1.0, burst=2.0)
    for _ in range(50):
        assert limit.take("a", 0.0) == 0.0
        limit.give_back("a")
    limit.give_back("a")
    limit.give_back("unknown")
    assert [limit.take("a", 0.0) for _ in range(3)] == [0.0, 0.0, 1.0]
