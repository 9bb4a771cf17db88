"""Waits for a load or a place at this node for one attempt, and tells its machine what came."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.core.cold_start import Wanted
from agent.core.request.messages import BecameResident, CouldNotLoad, PlaceDecided
from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from agent.core.engine_place import Place
    from agent.core.request.attempt import Attempt
    from agent.loads import LoadResult, Loads


def wait_for_load(
    loads: Loads, attempt: Attempt, report: Callable[[BecameResident | CouldNotLoad], None]
) -> None:
    """Report when what ``attempt`` asks for is in this node's engine, or cannot be.

    ``attempt.io`` is the wait, which ends when it is given up; the load goes on then.
    """
    asked = attempt.deployment

    def ended(result: LoadResult) -> None:
        attempt.io = None
        if isinstance(result, EdgeForgeError):
            report(CouldNotLoad(attempt, result))
        else:
            report(BecameResident(attempt, result))

    try:
        attempt.io = loads.wait(Wanted(asked.model, asked.adapter), ended)
    except EdgeForgeError as error:
        report(CouldNotLoad(attempt, error))


def wait_for_place(attempt: Attempt, tell: Callable[[PlaceDecided, float], None]) -> None:
    """Tell the machine when the place of ``attempt``, which is held, is decided."""
    place = attempt.place
    assert place is not None

    def decided(_place: Place, now_mono_ms: float) -> None:
        tell(PlaceDecided(attempt), now_mono_ms)

    place.on_decided = decided
