"""Waits for a place at this node's engine for another agent's request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from protos.domain.errors import NoReplica

if TYPE_CHECKING:
    from agent.core.engine_door import EngineDoor
    from agent.core.engine_place import Place, Work


class Crowded(NoReplica):
    """Too many requests of one account wait here; ``retry_after_s`` is for that account."""


async def wait_for_place(door: EngineDoor, work: Work, now_mono_ms: Callable[[], float]) -> Place:
    """Return a place that was given; the caller must leave it. Raises: Crowded.

    Cancelled while it waits, the request leaves the line.
    """
    place = door.enter(work, now_mono_ms())
    if place.waits:
        decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def tell(_place: Place, _now_mono_ms: float) -> None:
            if not decided.done():
                decided.set_result(None)

        place.on_decided = tell
        try:
            await decided
        except BaseException:
            door.leave(place, now_mono_ms())
            raise
    if place.retry_after_s is not None:
        door.leave(place, now_mono_ms())
        raise Crowded(
            "too many requests of this account wait here", retry_after_s=place.retry_after_s
        )
    return place
