"""Owners of requests are told once what was decided for them."""

from __future__ import annotations

from agent.core.engine_admission import EngineAdmission
from agent.core.engine_door import EngineDoor
from agent.core.engine_place import Place, Work


def test_the_owner_of_a_waiting_request_is_told_once_when_a_place_frees() -> None:
    door = EngineDoor(EngineAdmission(1))
    first, second = door.enter(Work("a"), 0.0), door.enter(Work("a"), 0.0)
    told: list[tuple[Place, float]] = []
    second.on_decided = lambda place, now_mono_ms: told.append((place, now_mono_ms))
    assert (first.waits, second.waits) == (False, True)
    door.leave(first, 5.0)
    assert told == [(second, 5.0)]
    door.leave(first, 6.0)
    assert len(told) == 1
    assert (door.serving, door.waiting) == (1, 0)


def test_an_owner_that_left_is_not_told() -> None:
    door = EngineDoor(EngineAdmission(1))
    first, second = door.enter(Work("a"), 0.0), door.enter(Work("a"), 0.0)
    told: list[Place] = []
    second.on_decided = lambda place, _now: told.append(place)
    door.leave(second, 1.0)
    door.leave(first, 2.0)
    assert told == []


def test_10000_waiters_whose_engine_fails_at_once_end_one_after_the_other() -> None:
    """Each is told from the end of the one before: nested calls would exhaust the stack."""
    door = EngineDoor(EngineAdmission(1, max_waiting=10_000))
    first = door.enter(Work("a"), 0.0)
    told: list[Place] = []

    def fails(place: Place, now_mono_ms: float) -> None:
        told.append(place)
        door.leave(place, now_mono_ms)

    for _ in range(10_000):
        door.enter(Work("a"), 0.0).on_decided = fails
    door.leave(first, 1.0)
    assert len(told) == 10_000
    assert (door.serving, door.waiting) == (0, 0)


def test_a_request_refused_at_once_says_so_to_its_caller() -> None:
    door = EngineDoor(EngineAdmission(1, max_waiting=1))
    for _ in range(2):
        door.enter(Work("a"), 0.0)
    refused = door.enter(Work("a"), 0.0)
    assert refused.retry_after_s is not None
    values = {sample.name: sample.value for sample in door.samples(0.0)}  # type: ignore[union-attr]
    assert values == {
        "edgeforge_engine_sequences": 1,
        "edgeforge_engine_waiting_requests": 1,
        "edgeforge_engine_waiting_sequences": 1,
        "edgeforge_engine_refused": 1,
    }
