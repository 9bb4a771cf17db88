"""A silent attempt is given up only where its target is gone."""

from __future__ import annotations

from agent.core.request.timing import RequestPolicy
from tests.support.request_world import TWO, RequestWorld, fleet, outcomes

POLICY = RequestPolicy(heartbeat_ms=0.0, stream_idle_ms=1_000.0, max_wait_ms=60_000.0)


def asked() -> RequestWorld:
    world = RequestWorld(fleet(TWO), policy=POLICY, stream=False)
    world.begin()
    return world


def test_a_silent_target_that_is_reachable_is_waited_for() -> None:
    assert asked().wait(30_000.0) == []


def test_a_silent_target_that_is_gone_is_given_up() -> None:
    world = asked()
    world.state.live.probe_failed("near", world.now)
    assert world.wait(5_000.0) == ["cancel near", "ask far"]
    assert outcomes(world) == [("near", "failed")]


def test_nothing_is_waited_for_longer_than_one_may() -> None:
    assert asked().wait(61_000.0) == ["cancel near", "account", "error 504 DeadlineExceeded"]
