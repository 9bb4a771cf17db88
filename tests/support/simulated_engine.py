"""An engine with continuous batching and chunked prefill, in simulated time.

One step generates a token for each request that decodes, and takes in as many prompt tokens as
its budget leaves, first come first served. Durations are what a step costs, times how slow the
engine is at that moment, times noise with a rare stall.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

#: One step in so many stalls: a collection, a page fault, a neighbour.
STALL_ONE_IN = 2_000


@dataclass(frozen=True, slots=True)
class EngineSpeed:
    """What one step costs, how much a step takes in, how many requests run at once."""

    step_ms: float
    prefill_ms_per_token: float
    decode_ms_per_request: float
    max_parallel: int
    step_tokens: int = 2_048
    noise: float = 0.06
    stall_ms: float = 60.0


@dataclass(slots=True, eq=False)
class Asked:
    """One request inside; ``note`` is the caller's own."""

    prompt_tokens: int
    completion_tokens: int
    note: object = None
    left_tokens: int = 0
    aborted: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """A first token, or an end."""

    at_ms: float
    asked: Asked
    ended: bool


class SimulatedEngine:
    """One engine. Requests must be added in the order of time."""

    def __init__(
        self,
        speed: EngineSpeed,
        chance: random.Random,
        slowness: Callable[[float], float] = lambda _: 1.0,
    ) -> None:
        self.speed = speed
        self._chance = chance
        self.slowness = slowness
        self._waiting: deque[Asked] = deque()
        self._prefilling: deque[Asked] = deque()
        self._decoding: list[tuple[int, int, Asked]] = []
        self._order = 0
        self._step = 0
        self._free_at_ms = 0.0
        self._busy = False

    @property
    def in_flight(self) -> int:
        return len(self._waiting) + len(self._prefilling) + len(self._decoding)

    @property
    def queued(self) -> int:
        """Requests without a place."""
        return len(self._waiting)

    def submit(self, asked: Asked, now_ms: float) -> None:
        """Take in a request; ``now_ms`` is not before what was advanced to."""
        asked.left_tokens = max(1, asked.prompt_tokens)
        self._waiting.append(asked)
        if not self._busy:
            self._busy = True
            self._free_at_ms = max(self._free_at_ms, now_ms)

    @property
    def generating(self) -> int:
        """Requests that the last step made a token for, or gave their first one."""
        return len(self._decoding)

    def inside(self) -> tuple[deque[tuple[int, int]], deque[tuple[int, int]], list[int]]:
        """Return who waits, who is taken in, and in how many steps who generates will have ended.

        Of the first two the prompt tokens left to take in, and those of the answer.
        """
        waiting = deque((each.left_tokens, each.completion_tokens) for each in self._waiting)
        taken_in = deque((each.left_tokens, each.completion_tokens) for each in self._prefilling)
        return waiting, taken_in, [end - self._step for end, _, _ in self._decoding]

    def abort(self, asked: Asked) -> None:
        """Drop a request before its end: it costs no step after the one that runs."""
        asked.aborted = True
        for line in (self._waiting, self._prefilling):
            if asked in line:
                line.remove(asked)
                return
        self._decoding = [entry for entry in self._decoding if entry[2] is not asked]
        heapq.heapify(self._decoding)

    @property
    def next_step_ms(self) -> float:
        """When the next step begins; inf while there is no work."""
        return self._free_at_ms if self._busy else math.inf

    def step(self) -> list[Told]:
        """Run one step; its events are at the step's end."""
        told: list[Told] = []
        speed = self.speed
        while self._waiting and len(self._prefilling) + len(self._decoding) < speed.max_parallel:
            self._prefilling.append(self._waiting.popleft())
        room = max(1, speed.step_tokens - len(self._decoding))
        taken, first = 0, []
        while self._prefilling and taken < room:
            asked = self._prefilling[0]
            part = min(asked.left_tokens, room - taken)
            asked.left_tokens -= part
            taken += part
            if asked.left_tokens:
                break
            first.append(self._prefilling.popleft())
        took_ms = (
            speed.step_ms
            + speed.prefill_ms_per_token * taken
            + speed.decode_ms_per_request * len(self._decoding)
        )
        took_ms *= self.slowness(self._free_at_ms)
        took_ms *= self._chance.lognormvariate(0.0, speed.noise)
        if self._chance.randrange(STALL_ONE_IN) == 0:
            took_ms += speed.stall_ms
        self._free_at_ms += took_ms
        self._step += 1
        for asked in first:
            told.append(Told(self._free_at_ms, asked, ended=False))
            self._order += 1
            end = self._step + max(0, asked.completion_tokens - 1)
            heapq.heappush(self._decoding, (end, self._order, asked))
        while self._decoding and self._decoding[0][0] <= self._step:
            told.append(Told(self._free_at_ms, heapq.heappop(self._decoding)[2], ended=True))
        self._busy = bool(self._waiting or self._prefilling or self._decoding)
        return told
