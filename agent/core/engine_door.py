"""Every request to this node's engine enters here: the admission decides, its owner is told.

A decision for one request may follow from the end of another, whose owner is being served: owners
are told one after the other, never one within another, however many follow.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from agent.core.engine_place import Place, Work
from agent.core.samples import Sample, Samples

if TYPE_CHECKING:
    from agent.core.engine_admission import Command, EngineAdmission, Newcomer
    from protos.domain.resources import SlaTier


class EngineDoor:
    """Used by the gateway and the peer port, from one event loop."""

    def __init__(self, admission: EngineAdmission) -> None:
        self._admission = admission
        self._decided: deque[Place] = deque()
        self._telling = False

    @property
    def serving(self) -> int:
        """Sequences at the engine."""
        return self._admission.serving

    @property
    def waiting(self) -> int:
        """Sequences that wait for the engine."""
        return self._admission.waiting

    def load_for(self, account: str, sla_tier: SlaTier) -> tuple[int, int]:
        """Return the sequences served and those ahead, as a request of ``account`` meets them."""
        return self._admission.load_for(account, sla_tier)

    def newcomer(self) -> Newcomer:
        """Return what an account without requests here would meet."""
        return self._admission.newcomer()

    def enter(self, work: Work, now_mono_ms: float) -> Place:
        """Return a request's place: served, refused, or waiting for ``on_decided``. Hot."""
        place = Place(work, now_mono_ms)
        self._tell(self._admission.enter(place, now_mono_ms), now_mono_ms)
        return place

    def leave(self, place: Place, now_mono_ms: float, tokens: float | None = None) -> None:
        """Give ``place`` back. ``tokens`` were generated; None: not counted. Hot."""
        place.on_decided = None
        commands = self._admission.leave(place, tokens, now_mono_ms)
        if commands or self._decided:
            self._tell(commands, now_mono_ms)

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield what is served and waits, and what was refused."""
        admission = self._admission
        yield Sample("edgeforge_engine_sequences", "Sequences at the engine.", admission.serving)
        yield Sample(
            "edgeforge_engine_waiting_requests",
            "Requests that wait for the engine.",
            admission.waiting_requests,
        )
        yield Sample(
            "edgeforge_engine_waiting_sequences",
            "Sequences of the requests that wait for the engine.",
            admission.waiting,
        )
        yield Sample(
            "edgeforge_engine_refused",
            "Requests refused because too many of their account waited for the engine.",
            admission.refused,
            counter=True,
        )

    def _tell(self, commands: list[Command], now_mono_ms: float) -> None:
        """Tell the owners of requests that waited."""
        decided = self._decided
        for command in commands:
            if command.place.on_decided is not None:
                decided.append(command.place)
        if self._telling or not decided:
            return
        self._telling = True
        try:
            while decided:
                place = decided.popleft()
                tell, place.on_decided = place.on_decided, None
                if tell is not None and not place.left:
                    tell(place, now_mono_ms)
        finally:
            self._telling = False
