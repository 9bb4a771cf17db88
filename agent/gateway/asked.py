"""One target that is being asked: what it was chosen for, and what it tells of its own time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.relay.far_times import read_far_times
from protos.domain.trace import FarTimes

if TYPE_CHECKING:
    from agent.core.engine_queue import EngineQueue, Place
    from agent.gateway.placing import Finding
    from agent.gateway.responses import ResponseHeads
    from agent.gateway.targets import Target
    from agent.gateway.trail import TokenTimes
    from agent.relay.exchange import Exchange
    from agent.relay.messages import Header
    from protos.domain.router import Placement


@dataclass(slots=True)
class Asked:
    """One attempt under way. ``place`` is its stay at our own engine, from ``enter`` on."""

    target: Target
    placement: Placement
    began_mono_ms: float
    tokens: TokenTimes
    #: What the choice of it was made with.
    budget_left_ms: float
    place: Place | None = None
    #: Key of its prompt in the target's backlog; 0: it is in none.
    prompt: int = 0
    #: What it finds out beside serving its client.
    finding: Finding | None = None

    def enter(self, queue: EngineQueue) -> None:
        """It is sent now: to our own engine, or to a peer, who has a queue of its own."""
        if not self.target.peer:
            self.place = queue.enter(self.began_mono_ms)

    def leave(self, queue: EngineQueue, now_mono_ms: float) -> None:
        """The engine is done with it."""
        if self.place is not None:
            queue.leave(self.place, now_mono_ms)

    def far_times(self, headers: list[Header], answered_mono_ms: float) -> FarTimes | None:
        """Return how the time until ``answered_mono_ms`` was spent there, as far as it is known."""
        if self.target.peer:
            return read_far_times(headers)
        queue_ms = 0.0 if self.place is None else self.place.queue_ms(answered_mono_ms)
        return FarTimes(0.0, queue_ms, answered_mono_ms - self.began_mono_ms)


@dataclass(slots=True)
class Running:
    """One attempt: what was asked, what receives the answer, and what heads it."""

    asked: Asked
    exchange: Exchange
    heads: ResponseHeads
