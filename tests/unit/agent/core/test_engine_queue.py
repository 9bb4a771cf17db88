"""Waiting for an engine's places, derived from the requests that arrived before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.engine_queue import EngineQueue, Place


def test_a_free_place_means_no_queue() -> None:
    queue = EngineQueue(1)
    assert queue.enter(10.0).queue_ms(50.0) == 0.0


def test_a_waiting_request_is_served_when_an_earlier_one_leaves() -> None:
    queue = EngineQueue(1)
    first, second, third = queue.enter(0.0), queue.enter(1.0), queue.enter(2.0)
    queue.leave(first, 100.0)
    queue.leave(second, 150.0)
    assert second.queue_ms(120.0) == 99.0
    assert third.queue_ms(170.0) == 148.0


def test_waiting_requests_are_counted_until_served_or_gone() -> None:
    queue = EngineQueue(1)
    first, second, _third = queue.enter(0.0), queue.enter(1.0), queue.enter(2.0)
    assert queue.waiting == 2
    queue.leave(second, 5.0)
    assert queue.waiting == 1
    queue.leave(first, 10.0)
    assert queue.waiting == 0


def test_a_request_that_stops_waiting_delays_no_other() -> None:
    queue = EngineQueue(1)
    first, second, third = queue.enter(0.0), queue.enter(1.0), queue.enter(2.0)
    queue.leave(second, 5.0)
    queue.leave(first, 10.0)
    assert third.queue_ms(20.0) == 8.0


def test_a_first_token_while_waiting_means_no_waiting_time() -> None:
    queue = EngineQueue(1)
    first, second = queue.enter(0.0), queue.enter(1.0)
    assert second.queue_ms(30.0) == 0.0
    queue.leave(first, 100.0)
    assert second.queue_ms(30.0) == 0.0


@given(st.integers(min_value=1, max_value=4), st.lists(st.integers(0, 20), max_size=60))
def test_served_requests_are_bounded_and_none_waits_while_a_place_is_free(
    places: int, steps: list[int]
) -> None:
    queue = EngineQueue(places)
    inside: list[Place] = []
    for now, step in enumerate(steps):
        if step < 10 or not inside:
            inside.append(queue.enter(float(now)))
        else:
            queue.leave(inside.pop(step % len(inside)), float(now))
        served = sum(place.served_mono_ms is not None for place in inside)
        assert served == min(places, len(inside))
