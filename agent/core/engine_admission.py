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
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from protos.domain.resources import SlaTier

#: Share of an engine's places that is kept, beyond them, for accounts with less than their share.
RESERVE_RATIO = 0.5
#: What an account's place in line is worth, by the service level of the request.
WEIGHTS = {SlaTier.REALTIME: 4.0, SlaTier.INTERACTIVE: 2.0, SlaTier.STANDARD: 1.0}
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
#: Accounts remembered for the work they had, beyond those that have requests here.
MAX_LINES = 4_096
_LEAST_RETRY_S, _MOST_RETRY_S = 1.0, 3_600.0
_TIER_ORDER = (SlaTier.REALTIME, SlaTier.INTERACTIVE, SlaTier.STANDARD)
_REALTIME, _INTERACTIVE, _STANDARD = (
    WEIGHTS[SlaTier.REALTIME],
    WEIGHTS[SlaTier.INTERACTIVE],
    WEIGHTS[SlaTier.STANDARD],
)


@dataclass(slots=True)
class Work:
    """What one request asks of an engine. Written once; not frozen because it is hot.

    ``prompt_tokens`` is of all its prompts; ``max_tokens`` of each answer, 0 where the engine
    computes no answer.
    """

    account: str
    sla_tier: SlaTier = SlaTier.STANDARD
    sequences: int = 1
    prompt_tokens: float = 0.0
    max_tokens: float = math.inf
    body_bytes: int = 0


class Place:
    """One request at the engine, from its arrival to its end."""

    __slots__ = (
        "charged_tokens",
        "entered_mono_ms",
        "from_reserve",
        "left",
        "on_decided",
        "retry_after_s",
        "served_mono_ms",
        "work",
    )

    def __init__(self, work: Work, entered_mono_ms: float) -> None:
        self.work = work
        self.entered_mono_ms = entered_mono_ms
        #: When it was given to the engine; None while it waits.
        self.served_mono_ms: float | None = None
        #: Set when it is refused: after how long its account may try again.
        self.retry_after_s: float | None = None
        self.left = False
        #: Whether it was served although no place was free.
        self.from_reserve = False
        #: The work that its account was charged.
        self.charged_tokens = 0.0
        #: Called once when a request that waited is served or refused; set by its owner.
        self.on_decided: Callable[[Place, float], None] | None = None

    @property
    def waits(self) -> bool:
        """Whether it is not decided yet."""
        return self.served_mono_ms is None and self.retry_after_s is None

    def queue_ms(self, first_token_mono_ms: float) -> float:
        """Return how long it waited, given when its first token came."""
        served = self.served_mono_ms
        if served is None or served > first_token_mono_ms:
            return 0.0
        return served - self.entered_mono_ms


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


class _Line:
    """One account at this engine."""

    __slots__ = (
        "account",
        "in_heap",
        "in_use",
        "requests",
        "tag",
        "tier_tags",
        "tiers",
        "waiting",
        "weight",
    )

    def __init__(self, account: str, tag: float) -> None:
        self.account = account
        #: Work it had, in tokens over weight: where its next request starts in virtual time.
        self.tag = tag
        #: Of its latest request.
        self.weight = 0.0
        #: Sequences that it has at the engine, and that wait; and requests that wait.
        self.in_use = 0
        self.waiting = 0
        self.requests = 0
        #: What waits of each service level, in order of arrival, and the work that level had.
        self.tiers: tuple[OrderedDict[Place, None], ...] = (
            OrderedDict(),
            OrderedDict(),
            OrderedDict(),
        )
        self.tier_tags = [0.0, 0.0, 0.0]
        self.in_heap = False

    def __lt__(self, other: _Line) -> bool:
        return self.account < other.account

    def add(self, place: Place) -> None:
        """Let ``place`` wait."""
        index = _TIER_ORDER.index(place.work.sla_tier)
        if not self.tiers[index]:
            waiting = [tag for tag, tier in zip(self.tier_tags, self.tiers, strict=True) if tier]
            self.tier_tags[index] = max(self.tier_tags[index], min(waiting, default=0.0))
        self.tiers[index][place] = None
        self.waiting += place.work.sequences
        self.requests += 1

    def remove(self, place: Place) -> None:
        """Let ``place`` wait no longer."""
        del self.tiers[_TIER_ORDER.index(place.work.sla_tier)][place]
        self.waiting -= place.work.sequences
        self.requests -= 1
        if not self.requests:
            self.tier_tags = [0.0, 0.0, 0.0]

    @property
    def most_weight(self) -> float:
        """The weight of its highest level that waits; at least that of its latest request."""
        realtime, interactive, _ = self.tiers
        weight = _REALTIME if realtime else _INTERACTIVE if interactive else _STANDARD
        return weight if weight > self.weight else self.weight

    def first(self) -> Place:
        """Return whose turn it is: of the level that had the least work for its weight."""
        best, lowest = -1, math.inf
        for index, tier in enumerate(self.tiers):
            if tier and self.tier_tags[index] < lowest:
                best, lowest = index, self.tier_tags[index]
        return next(iter(self.tiers[best]))

    def newest(self) -> Place:
        """Return the newest of the lowest level that waits."""
        tier = next(tier for tier in reversed(self.tiers) if tier)
        return next(reversed(tier))

    def charge_tier(self, place: Place) -> None:
        """Count the work of ``place`` for its level."""
        index = _TIER_ORDER.index(place.work.sla_tier)
        self.tier_tags[index] += place.charged_tokens / WEIGHTS[place.work.sla_tier]


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
        self._lines: dict[str, _Line] = {}
        #: Those with waiting requests; the one that was served longest ago first.
        self._backlogged: dict[str, _Line] = {}
        self._heap: list[tuple[float, _Line]] = []
        self._virtual = 0.0
        #: Weights of the accounts that have places or wait.
        self._active_weight = 0.0
        #: Sequences at the engine that were served from the reserve.
        self._reserved = 0
        self._requests = 0
        self._bytes = 0
        self._completion_tokens = START_COMPLETION_TOKENS
        self._held_ms = _START_HELD_MS
        #: Sequences at the engine, and that wait for it.
        self.serving = 0
        self.waiting = 0
        self.refused = 0

    @property
    def waiting_requests(self) -> int:
        """Requests that wait."""
        return self._requests

    @property
    def accounts(self) -> int:
        """Accounts that are remembered."""
        return len(self._lines)

    def handle(self, event: Event, now_mono_ms: float) -> list[Command]:
        """Take ``event``; return the commands, in order. Hot: twice a request."""
        if isinstance(event, Entered):
            return self._enter(event.place, now_mono_ms)
        return self._leave(event.place, event.tokens, now_mono_ms)

    def load_for(self, account: str, sla_tier: SlaTier) -> tuple[int, int]:
        """Return the sequences served, and those ahead in line, as a request would meet them. Hot.

        Others' waiting requests are ahead only as far as fair queueing puts them there. A request
        that would be served at once finds at least one place free, be it one of the reserve.
        """
        serving, places = self.serving, self._places
        if serving < places and not self._requests:
            return serving, 0
        line, weight = self._lines.get(account), WEIGHTS[sla_tier]
        own = 0 if line is None else line.waiting
        if not own and self._is_under_share(line, weight, 1):
            return min(serving, places - 1), 0
        all_weights = self._active_weight
        if line is None or not (line.in_use or own):
            all_weights += weight
        ahead = min(self.waiting, math.ceil(own * all_weights / weight))
        return max(serving, places), ahead

    def newcomer(self) -> Newcomer:
        """Return what an account without requests here would meet, at the lowest service level."""
        serving, places = self.serving, self._places
        if serving < places and not self._requests:
            return Newcomer(serving, 0, places)
        weight = WEIGHTS[SlaTier.STANDARD]
        share = max(1, int(places * weight / (self._active_weight + weight)))
        room = min(share, self._reserve - self._reserve_used())
        if room > 0:
            return Newcomer(min(serving, places - room), 0, share)
        return Newcomer(max(serving, places), 0, share)

    # -- events

    def _enter(self, place: Place, now_mono_ms: float) -> list[Command]:
        work = place.work
        line = self._lines.get(work.account) or self._new_line(work.account)
        weight = WEIGHTS[work.sla_tier]
        self._active_weight += weight - line.weight
        line.weight = weight
        if not self._requests and self.serving < self._places:
            self._serve(line, place, now_mono_ms)
            return [Serve(place)]
        line.add(place)
        self.waiting += work.sequences
        self._requests += 1
        self._bytes += work.body_bytes
        if line.requests == 1:
            line.tag = max(line.tag, self._virtual)
            self._backlogged[line.account] = line
        self._into_heap(line)
        commands = self._fill(now_mono_ms)
        while self._requests > self._max_waiting or self._bytes > self._max_waiting_bytes:
            commands.append(self._refuse_one())
        return commands

    def _leave(self, place: Place, tokens: float | None, now_mono_ms: float) -> list[Command]:
        if place.left:
            return []
        place.left = True
        if place.retry_after_s is not None:
            return []
        work = place.work
        line = self._lines[work.account]
        if place.served_mono_ms is None:
            self._unqueue(line, place)
            self._rest(line)
            return []
        self.serving -= work.sequences
        if place.from_reserve:
            self._reserved -= work.sequences
        line.in_use -= work.sequences
        self._held_ms += _STEP * (now_mono_ms - place.served_mono_ms - self._held_ms)
        if tokens is not None:
            self._settle(line, place, tokens)
        commands = self._fill(now_mono_ms)
        self._rest(line)
        return commands

    def _settle(self, line: _Line, place: Place, tokens: float) -> None:
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
        while self._requests:
            line = self._next_line()
            if line is None:
                break
            place = line.first()
            self._unqueue(line, place)
            self._serve(line, place, now_mono_ms)
            if line.requests:
                line.charge_tier(place)
                self._into_heap(line)
            commands.append(Serve(place))
        return commands

    def _next_line(self) -> _Line | None:
        if self.serving < self._places:
            return self._least_served()
        if self._reserve_used() < self._reserve:
            most = self._places / self._active_weight
            for number, line in enumerate(self._backlogged.values()):
                if number >= _LOOKED_AT:
                    break
                if line.in_use and line.in_use >= most * line.most_weight:
                    continue  # most lines end here, without a look at their first request
                first = line.first().work
                if self._is_under_share(line, WEIGHTS[first.sla_tier], first.sequences):
                    return line
        return None

    def _least_served(self) -> _Line | None:
        """Return the account in line that had the least work in proportion to its weight."""
        heap = self._heap
        while heap:
            tag, line = heap[0]
            if line.requests and tag >= line.tag:
                return line
            heappop(heap)
            line.in_heap = False
            if line.requests:  # it was served from the reserve meanwhile
                self._into_heap(line)
        return None

    def _is_under_share(self, line: _Line | None, weight: float, sequences: int) -> bool:
        """Whether the reserve is open to an account: it stays within its share of the places."""
        if self._reserve_used() + sequences > self._reserve:
            return False
        if line is None or not line.in_use:
            return True
        share = self._places * weight / (self._active_weight - line.weight + weight)
        return line.in_use + sequences <= share

    def _reserve_used(self) -> int:
        """Return the sequences beyond the places, but for those of a request wider than these."""
        return min(self._reserved, max(0, self.serving - self._places))

    def _serve(self, line: _Line, place: Place, now_mono_ms: float) -> None:
        work = place.work
        answer_tokens = min(work.max_tokens, self._completion_tokens)
        place.charged_tokens = max(1.0, work.prompt_tokens + work.sequences * answer_tokens)
        start = max(line.tag, self._virtual)
        if self.serving < self._places:
            self._virtual = start
        else:  # out of turn
            place.from_reserve = True
            self._reserved += work.sequences
        line.tag = start + place.charged_tokens / WEIGHTS[work.sla_tier]
        place.served_mono_ms = now_mono_ms
        line.in_use += work.sequences
        self.serving += work.sequences

    # -- lines

    def _into_heap(self, line: _Line) -> None:
        if not line.in_heap:
            line.in_heap = True
            heappush(self._heap, (line.tag, line))

    def _unqueue(self, line: _Line, place: Place) -> None:
        """Take ``place`` out of the line; the account's turn at the reserve comes last again."""
        line.remove(place)
        self.waiting -= place.work.sequences
        self._requests -= 1
        self._bytes -= place.work.body_bytes
        del self._backlogged[line.account]
        if line.requests:
            self._backlogged[line.account] = line

    def _rest(self, line: _Line) -> None:
        """Forget ``line`` if nothing of it is here and it had no more work than others."""
        if line.in_use or line.requests:
            return
        self._active_weight -= line.weight
        line.weight = 0.0
        if not self.serving and not self._requests:  # nobody competes: every account begins anew
            self._lines.clear()
            self._heap.clear()
            self._virtual = self._active_weight = 0.0
        elif line.tag <= self._virtual and not line.in_heap:
            del self._lines[line.account]

    def _new_line(self, account: str) -> _Line:
        if len(self._lines) >= MAX_LINES:
            self._forget_idle()
        line = self._lines[account] = _Line(account, self._virtual)
        return line

    def _forget_idle(self) -> None:
        """Forget the accounts that have nothing here; the heap may name some of them."""
        self._lines = {one.account: one for one in self._lines.values() if one.weight > 0.0}
        for line in self._lines.values():
            line.in_heap = line.requests > 0
        self._heap = [(line.tag, line) for line in self._lines.values() if line.in_heap]
        heapify(self._heap)

    # -- limits

    def _refuse_one(self) -> Refuse:
        """Refuse the newest request of the account with the most waiting work for its weight."""
        line = max(self._backlogged.values(), key=_crowd)
        place = line.newest()
        place.retry_after_s = self._retry_after_s(line)
        self._unqueue(line, place)
        self._rest(line)
        self.refused += 1
        return Refuse(place)

    def _retry_after_s(self, line: _Line) -> float:
        """Return when half of what the account has waiting will be served, at its share."""
        share = max(1.0, self._places * line.weight / max(line.weight, self._active_weight))
        wait_s = line.waiting / 2.0 * self._held_ms / share / 1_000.0
        return min(_MOST_RETRY_S, max(_LEAST_RETRY_S, wait_s))


def _crowd(line: _Line) -> float:
    return line.waiting / line.weight
