"""The wait of an adapter for a slot of an engine whose slots all serve requests."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.engine.slot import EngineSlot

#: Predicted for each adapter that waits: how long until a slot is free.
SLOT_WAIT_MS = 1_000.0
#: An adapter that was loaded for a request keeps its slot for so long, until that request uses it.
_UNUSED_S = 0.5
#: A slot becomes free with an event; the clock is looked at as often as this besides.
_LOOK_S = 0.25


def predicted_wait_ms(slot: EngineSlot, served: str) -> float:
    """Return how long an adapter that comes now may wait for a slot. Hot."""
    return 0.0 if slot.slots.can_take(served) else SLOT_WAIT_MS * (1 + len(slot.turns))


async def wait_for_room(
    slot: EngineSlot,
    served: str,
    account: str,
    *,
    max_wait_ms: float,
    now_mono_ms: Callable[[], float],
) -> float:
    """Return once there is a slot for ``served`` and it is its turn, or after ``max_wait_ms``.

    Accounts take turns. Returned is how long it took; the caller finds out whether there is room.
    """
    began_ms = now_mono_ms()
    if _has_room(slot, served) and not len(slot.turns):
        return 0.0
    slot.turns.join(account, served)
    found = False
    try:
        while slot.is_open and now_mono_ms() - began_ms < max_wait_ms:
            if slot.turns.is_first(account, served) and _has_room(slot, served):
                found = True
                break
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await slot.wait_change()
    finally:
        slot.turns.leave(account, served, served=found)
    return now_mono_ms() - began_ms


def _has_room(slot: EngineSlot, served: str) -> bool:
    name, since_s = slot.unused
    is_fresh = asyncio.get_running_loop().time() - since_s < _UNUSED_S
    return slot.slots.can_take(served, sparing=name if is_fresh else "")
