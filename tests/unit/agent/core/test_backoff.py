"""The delay doubles, is capped, and is spread by the draw."""

from __future__ import annotations

import pytest

from agent.core.backoff import BackoffPolicy, full_jitter_ms

POLICY = BackoffPolicy(base_ms=1_000, cap_ms=60_000)


@pytest.mark.parametrize(
    ("failures", "ceiling_ms"),
    [(1, 1_000), (2, 2_000), (3, 4_000), (6, 32_000), (7, 60_000), (8, 60_000), (10_000, 60_000)],
)
def test_the_ceiling_doubles_up_to_the_cap(failures: int, ceiling_ms: float) -> None:
    assert full_jitter_ms(POLICY, failures, 1.0) == ceiling_ms
    assert full_jitter_ms(POLICY, failures, 0.25) == ceiling_ms / 4
    assert full_jitter_ms(POLICY, failures, 0.0) == 0


def test_without_a_failure_there_is_no_delay() -> None:
    assert full_jitter_ms(POLICY, 0, 1.0) == 0


@pytest.mark.parametrize(("base_ms", "cap_ms"), [(0, 1), (-1, 1), (2, 1)])
def test_a_policy_whose_base_exceeds_its_cap_is_refused(base_ms: float, cap_ms: float) -> None:
    with pytest.raises(ValueError, match="does not hold"):
        BackoffPolicy(base_ms, cap_ms)
