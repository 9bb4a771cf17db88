"""Many deadlines behind one timer."""

from __future__ import annotations

import asyncio

import pytest

from agent.relay.deadlines import Deadlines
from tests.support.waiting import wait_until_async


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.mono_ms = 1_000.0

    def now_mono_ms(self) -> float:
        return self.mono_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deadlines(clock: Clock) -> Deadlines:
    return Deadlines(clock.now_mono_ms)


async def test_a_deadline_rings_once_and_not_before_its_time(
    clock: Clock, deadlines: Deadlines
) -> None:
    rung: list[float] = []
    deadlines.set(1_003.0, lambda: rung.append(clock.mono_ms))
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, later.set)
    await later.wait()
    assert not rung, "the timer fired, but the clock has not come so far"
    clock.mono_ms = 1_003.0
    await wait_until_async(lambda: bool(rung), 30, "the deadline")
    assert rung == [1_003.0]
    assert len(deadlines) == 0


async def test_deadlines_ring_in_time_in_whatever_order_they_were_set(
    clock: Clock, deadlines: Deadlines
) -> None:
    rung: list[str] = []
    deadlines.set(600_000.0, lambda: rung.append("far"))
    deadlines.set(1_050.0, lambda: rung.append("near"))
    deadlines.set(1_001.0, lambda: rung.append("nearest"))
    clock.mono_ms = 1_001.0
    await wait_until_async(lambda: rung == ["nearest"], 30, "the nearest")
    clock.mono_ms = 1_050.0
    await wait_until_async(lambda: rung == ["nearest", "near"], 30, "the next")
    assert len(deadlines) == 1


async def test_a_cleared_deadline_never_rings_not_even_cleared_by_one_that_does(
    clock: Clock, deadlines: Deadlines
) -> None:
    rung: list[str] = []
    keys: list[int] = []

    def first() -> None:
        rung.append("first")
        deadlines.clear(keys[1])

    keys.append(deadlines.set(1_002.0, first))
    keys.append(deadlines.set(1_002.0, lambda: rung.append("cleared")))
    keys.append(deadlines.set(1_004.0, lambda: rung.append("last")))
    deadlines.clear(deadlines.set(1_001.0, lambda: rung.append("cleared at once")))
    clock.mono_ms = 1_010.0
    await wait_until_async(lambda: "last" in rung, 30, "the last")
    assert rung == ["first", "last"]
    deadlines.clear(keys[0])


async def test_a_deadline_set_by_one_that_rings_is_not_forgotten(
    clock: Clock, deadlines: Deadlines
) -> None:
    rung: list[str] = []

    def again() -> None:
        rung.append("once")
        deadlines.set(clock.mono_ms + 2.0, lambda: rung.append("twice"))

    deadlines.set(1_001.0, again)
    clock.mono_ms = 1_001.0
    await wait_until_async(lambda: rung == ["once"], 30, "the first")
    clock.mono_ms = 1_003.0
    await wait_until_async(lambda: rung == ["once", "twice"], 30, "the second")


async def test_one_that_fails_does_not_silence_the_others(
    clock: Clock, deadlines: Deadlines
) -> None:
    rung: list[str] = []
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, said: told.append(said))

    def fail() -> None:
        raise ValueError("a bug")

    deadlines.set(1_001.0, fail)
    deadlines.set(1_001.0, lambda: rung.append("other"))
    clock.mono_ms = 1_002.0
    await wait_until_async(lambda: bool(rung), 30, "the other")
    assert told
