"""A peer's request waits for the engine's place, and leaves the line when its agent does."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from agent.core.engine_admission import EngineAdmission
from agent.core.engine_door import EngineDoor
from agent.core.engine_place import Work
from agent.peers.places import Crowded, wait_for_place


def now_mono_ms() -> float:
    return 5.0


async def test_a_peers_request_waits_until_a_place_frees() -> None:
    door = EngineDoor(EngineAdmission(1))
    first = await wait_for_place(door, Work("a"), now_mono_ms)
    waits = asyncio.get_running_loop().create_task(wait_for_place(door, Work("a"), now_mono_ms))
    await asyncio.sleep(0)
    assert (door.waiting, waits.done()) == (1, False)
    door.leave(first, 6.0)
    assert (await waits).served_mono_ms == 6.0


async def test_a_peers_request_whose_agent_is_gone_leaves_the_line() -> None:
    door = EngineDoor(EngineAdmission(1))
    first = await wait_for_place(door, Work("a"), now_mono_ms)
    waits = asyncio.get_running_loop().create_task(wait_for_place(door, Work("a"), now_mono_ms))
    await asyncio.sleep(0)
    waits.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waits
    assert door.waiting == 0
    door.leave(first, 6.0)
    assert door.serving == 0


async def test_an_account_with_too_much_waiting_is_refused_with_a_time_to_retry() -> None:
    door = EngineDoor(EngineAdmission(1, max_waiting=1))
    for _ in range(2):
        door.enter(Work("a"), 0.0)
    with pytest.raises(Crowded) as refused:
        await wait_for_place(door, Work("a"), now_mono_ms)
    assert refused.value.retry_after_s is not None
    assert (door.serving, door.waiting) == (1, 1)
