"""Which requests one engine is given next: fair between accounts, and bounded. Pure.

A request is counted as the sequences that the engine computes for it, and costs the tokens of its
prompts and of its answers. One account alone gets every place. Of several, the one that had the
least work in proportion to its weight gets each place that frees (start-time fair queueing: Goyal,
Vin, Cheng, SIGCOMM 1996), and an account that has less than its share of the places gets them at
once, over the engine's number, from a reserve: sequences that run cannot be interrupted.

Laws: no request waits while a place is free; every account that waits is served in proportion to
its weight; an account that has no place waits only while the reserve is used up; a request that has
left never gets a place; what waits is bounded in number and bytes, and over it the account with
the most waiting work is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.engine_place import WEIGHTS
from agent.core.fair_queue import MAX_LINES, FairQueue
from protos.domain.resources import SlaTier

if TYPE_CHECKING:
    from agent.core.engine_place import Place
    from agent.core.fair_queue import AccountLine

#: Share of an engine's places that is kept, beyond them, for accounts with less than their share.
RESERVE_RATIO = 0.5
#: Bytes of the bodies that may wait.
MAX_WAITING_BYTES = 256 * 1024 * 1024
#: Tokens of an answer, until some were counted. Source: as ``protos.domain.ttft``.
START_COMPLETION_TOKENS = 211.0
#: Weight of one answer in the mean of their tokens, and of one request in the mean of its time.
_STEP = 0.05
#: How long a place is held, until that was seen.
_START_HELD_MS = 2_000.0
#: Accounts in line that are looked at for a place of the reserve.
_LOOKED_AT = 32
_LEAST_RETRY_S, _MOST_RETRY_S = 1.0, 3_600.0


@dataclass(slots=True)
class Entered:
    """A request wants to be computed."""

    place: Place


@dataclass(slots=True)
class Left:
    """A request has ended, or its client is gone. ``tokens`` were generated; None: not counted."""

    place: Place
    tokens: float | None = None


Event = Entered | Left


@dataclass(slots=True)
class Serve:
    """Give the request to the engine."""

    place: Place


@dataclass(slots=True)
class Refuse:
    """Refuse the request; ``place.retry_after_s`` is set."""

    place: Place


Command = Serve | Refuse


@dataclass(slots=True)
class Newcomer:
    """What an account without requests at an engine would meet: sequences served, ahead in line.

    ``share``: sequences that it may have there before it waits, while others wait.
    """

    in_flight: int
    queued: int
    share: int


class EngineAdmission:
    """All requests at one engine, local and from peers. Each enters once and leaves once."""

    def __init__(
        self,
        places: int,
        *,
        max_waiting: int = MAX_LINES,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
    ) -> None:
        self._places = places
        self._reserve = math.ceil(RESERVE_RATIO * places)
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._queue = FairQueue()
        #: Sequences at the engine that were served from the reserve.
        self._reserved = 0
        self._completion_tokens = START_COMPLETION_TOKENS
        self._held_ms = _START_HELD_MS
        #: Sequences at the engine.
        self.serving = 0
        #: Requests that were refused.
        self.refused = 0

    @property
    def waiting(self) -> int:
        """Sequences that wait."""
        return self._queue.sequences

    @property
    def waiting_requests(self) -> int:
        """Requests that wait."""
        return self._queue.requests

    @property
    def accounts(self) -> int:
        """Accounts that are remembered."""
        return self._queue.accounts

    def handle(self, event: Event, now_mono_ms: float) -> list[Command]:
        """Take ``event``; return the commands, in order."""
        if isinstance(event, Entered):
            return self.enter(event.place, now_mono_ms)
        return self.leave(event.place, event.tokens, now_mono_ms)

    def load_for(self, account: str, sla_tier: SlaTier) -> tuple[int, int]:
        """Return the sequences served, and those ahead in line, as a request would meet them. Hot.

        Others' waiting requests are ahead only as far as fair queueing puts them there. A request
        that would be served at once finds at least one place free, be it one of the reserve.
        """
        serving, places, queue = self.serving, self._places, self._queue
        if serving < places and not queue.requests:
            return serving, 0
        line, weight = queue.find(account), WEIGHTS[sla_tier]
        own = 0 if line is None else line.waiting
        if not own and self._is_under_share(line, weight, 1):
            return min(serving, places - 1), 0
        all_weights = queue.active_weight
        if line is None or not (line.in_use or own):
            all_weights += weight
        ahead = min(queue.sequences, math.ceil(own * all_weights / weight))
        return max(serving, places), ahead

    def newcomer(self) -> Newcomer:
        """Return what an account without requests here would meet, at the lowest service level."""
        serving, places = self.serving, self._places
        if serving < places and not self._queue.requests:
            return Newcomer(serving, 0, places)
        weight = WEIGHTS[SlaTier.STANDARD]
        share = max(1, int(places * weight / (self._queue.active_weight + weight)))
        room = min(share, self._reserve - self._reserve_used())
        if room > 0:
            return Newcomer(min(serving, places - room), 0, share)
        return Newcomer(max(serving, places), 0, share)

    # -- events

    def enter(self, place: Place, now_mono_ms: float) -> list[Command]:
        """Handle ``Entered``. Hot."""
        work, queue = place.work, self._queue
        line = queue.arrived(work.account, WEIGHTS[work.sla_tier])
        if not queue.requests and self.serving < self._places:
            self._serve(line, place, now_mono_ms)
            return [Serve(place)]
        queue.add(line, place)
        commands = self._fill(now_mono_ms)
        while queue.requests > self._max_waiting or queue.body_bytes > self._max_waiting_bytes:
            commands.append(self._refuse_one())
        return commands

    def leave(self, place: Place, tokens: float | None, now_mono_ms: float) -> list[Command]:
        """Handle ``Left``. Hot."""
        if place.left:
            return []
        place.left = True
        if place.retry_after_s is not None:
            return []
        work, queue = place.work, self._queue
        line = queue.find(work.account)
        assert line is not None
        if place.served_mono_ms is None:
            queue.remove(line, place)
            queue.rest(line)
            return []
        self.serving -= work.sequences
        if place.from_reserve:
            self._reserved -= work.sequences
        line.in_use -= work.sequences
        self._held_ms += _STEP * (now_mono_ms - place.served_mono_ms - self._held_ms)
        if tokens is not None:
            self._settle(line, place, tokens)
        commands = self._fill(now_mono_ms) if queue.requests else []
        queue.rest(line)
        return commands

    def _settle(self, line: AccountLine, place: Place, tokens: float) -> None:
        """Charge what was generated in place of what had been expected."""
        work = place.work
        if work.max_tokens > 0.0:
            self._completion_tokens += _STEP * (tokens / work.sequences - self._completion_tokens)
        used = max(1.0, work.prompt_tokens + tokens)
        line.tag += (used - place.charged_tokens) / WEIGHTS[work.sla_tier]

    # -- serving

    def _fill(self, now_mono_ms: float) -> list[Command]:
        """Serve what may be served now."""
        commands: list[Command] = []
        queue = self._queue
        while queue.requests:
            line = self._next_line()
            if line is None:
                break
            place = line.first()
            queue.remove(line, place)
            self._serve(line, place, now_mono_ms)
            queue.waits_on(line, place)
            commands.append(Serve(place))
        return commands

    def _next_line(self) -> AccountLine | None:
        if self.serving < self._places:
            return self._queue.least_served()
        if self._reserve_used() < self._reserve:
            most = self._places / self._queue.active_weight
            for number, line in enumerate(self._queue.longest_unserved()):
                if number >= _LOOKED_AT:
                    break
                if line.in_use and line.in_use >= most * line.most_weight:
                    continue  # most lines end here, without a look at their first request
                first = line.first().work
                if self._is_under_share(line, WEIGHTS[first.sla_tier], first.sequences):
                    return line
        return None

    def _is_under_share(self, line: AccountLine | None, weight: float, sequences: int) -> bool:
        """Whether the reserve is open to an account: it stays within its share of the places."""
        if self._reserve_used() + sequences > self._reserve:
            return False
        if line is None or not line.in_use:
            return True
        share = self._places * weight / (self._queue.active_weight - line.weight + weight)
        return line.in_use + sequences <= share

    def _reserve_used(self) -> int:
        """Return the sequences beyond the places, but for those of a request wider than these."""
        return min(self._reserved, max(0, self.serving - self._places))

    def _serve(self, line: AccountLine, place: Place, now_mono_ms: float) -> None:
        work = place.work
        answer_tokens = min(work.max_tokens, self._completion_tokens)
        place.charged_tokens = max(1.0, work.prompt_tokens + work.sequences * answer_tokens)
        in_turn = self.serving < self._places
        self._queue.serve(line, place, in_turn=in_turn)
        if not in_turn:
            place.from_reserve = True
            self._reserved += work.sequences
        place.served_mono_ms = now_mono_ms
        self.serving += work.sequences

    # -- limits

    def _refuse_one(self) -> Refuse:
        """Refuse the newest request of the account with the most waiting work for its weight."""
        line = self._queue.most_crowded()
        place = line.newest()
        place.retry_after_s = self._retry_after_s(line)
        self._queue.remove(line, place)
        self._queue.rest(line)
        self.refused += 1
        return Refuse(place)

    def _retry_after_s(self, line: AccountLine) -> float:
        """Return when half of what the account has waiting will be served, at its share."""
        share = max(1.0, self._places * line.weight / max(line.weight, self._queue.active_weight))
        wait_s = line.waiting / 2.0 * self._held_ms / share / 1_000.0
        return min(_MOST_RETRY_S, max(_LEAST_RETRY_S, wait_s))
