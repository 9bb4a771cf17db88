"""The time limits of engines by default, and with a short stall timeout."""

from __future__ import annotations

import pytest

from agent.core.engine_policy import STALL_TIMEOUT_MS, EnginePolicy


def test_by_default_several_probes_fit_into_the_stall_timeout_in_full() -> None:
    policy = EnginePolicy()
    assert policy.stall_timeout_ms == STALL_TIMEOUT_MS
    for wanted_ms in (policy.live_probe_interval_ms, policy.generate_timeout_ms, policy.overdue_ms):
        assert policy.share_of_stall_ms(wanted_ms) == wanted_ms


@pytest.mark.parametrize("stall_timeout_ms", [1_000.0, 30_000.0, 119_000.0])
def test_before_a_short_one_ends_a_probe_has_failed_and_the_counters_were_read_twice(
    stall_timeout_ms: float,
) -> None:
    policy = EnginePolicy(stall_timeout_ms=stall_timeout_ms)
    share_ms = policy.share_of_stall_ms
    sent_ms = share_ms(policy.live_probe_interval_ms)
    assert sent_ms + share_ms(policy.generate_timeout_ms) <= stall_timeout_ms
    read_ms = sent_ms + share_ms(policy.overdue_ms)
    assert read_ms + share_ms(policy.live_probe_interval_ms) <= stall_timeout_ms
