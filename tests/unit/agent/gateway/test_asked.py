"""What an attempt tells of its target's own time, and the place that it gives back."""

from __future__ import annotations

from typing import Any

import pytest

from agent.core.engine_queue import EngineQueue
from agent.gateway.asked import Asked
from agent.gateway.targets import Target
from agent.gateway.trail import TokenTimes
from protos.domain.trace import FarTimes

HEADERS = [(b"x-edgeforge-timing", b"admission=1.0;queue=2.0;engine=30.0")]


def asked(*, peer: bool, began_mono_ms: float = 100.0) -> Asked:
    nothing: Any = None
    target = Target("n-1", nothing, b"n-1", "m", True, peer=peer)
    return Asked(target, nothing, began_mono_ms, TokenTimes(None), 0.0)


def test_a_peer_tells_its_own_times_and_takes_no_place_here() -> None:
    queue = EngineQueue(1)
    one = asked(peer=True)
    one.enter(queue)
    assert one.far_times(HEADERS, 500.0) == FarTimes(1.0, 2.0, 30.0)
    assert queue.enter(0.0).served_mono_ms is not None, "the only place is still free"


def test_our_own_engines_headers_are_not_believed_and_its_queue_is_counted() -> None:
    queue = EngineQueue(1)
    first, second = asked(peer=False), asked(peer=False, began_mono_ms=110.0)
    first.enter(queue)
    second.enter(queue)
    first.leave(queue, 150.0)
    assert second.far_times(HEADERS, 190.0) == FarTimes(0.0, 40.0, 80.0)


@pytest.mark.parametrize("peer", [True, False])
def test_an_attempt_that_was_never_sent_gives_nothing_back(peer: bool) -> None:
    queue = EngineQueue(1)
    asked(peer=peer).leave(queue, 100.0)
    queue.enter(0.0)
    assert queue.enter(0.0).served_mono_ms is None, "there is one place, not two"
