"""Which account's waiting request comes next: start-time fair queueing. Pure.

Each account has a line, and a tag: the work it had, over its weight. The lowest tag is next, and
virtual time is the tag of the request that was served last in its turn.
Source: Goyal, Vin, Cheng, SIGCOMM 1996.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from agent.core.engine_place import WEIGHTS
from protos.domain.resources import SlaTier

if TYPE_CHECKING:
    from agent.core.engine_place import Place

#: Accounts remembered for the work they had, beyond those that have requests here.
MAX_LINES = 4_096
_TIER_ORDER = (SlaTier.REALTIME, SlaTier.INTERACTIVE, SlaTier.STANDARD)
_REALTIME, _INTERACTIVE, _STANDARD = (
    WEIGHTS[SlaTier.REALTIME],
    WEIGHTS[SlaTier.INTERACTIVE],
    WEIGHTS[SlaTier.STANDARD],
)
#: What waits of an account of which nothing has waited yet; never written to.
_NOTHING: tuple[OrderedDict[Place, None], ...] = (OrderedDict(), OrderedDict(), OrderedDict())


class AccountLine:
    """One account at the engine: its work so far, and its waiting requests by service level."""

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
        self.tiers = _NOTHING
        self.tier_tags = [0.0, 0.0, 0.0]
        self.in_heap = False

    def __lt__(self, other: AccountLine) -> bool:
        return self.account < other.account

    def add(self, place: Place) -> None:
        """Let ``place`` wait."""
        if self.tiers is _NOTHING:  # of most accounts nothing ever waits
            self.tiers = (OrderedDict(), OrderedDict(), OrderedDict())
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


class FairQueue:
    """The lines of all accounts at one engine. Public attributes are read-only for others."""

    def __init__(self) -> None:
        self._lines: dict[str, AccountLine] = {}
        #: Those with waiting requests; the one that was served longest ago first.
        self._backlogged: dict[str, AccountLine] = {}
        self._heap: list[tuple[float, AccountLine]] = []
        self._virtual = 0.0
        #: Weights of the accounts that have places or wait.
        self.active_weight = 0.0
        #: What waits: requests, their sequences, and the bytes of their bodies.
        self.requests = 0
        self.sequences = 0
        self.body_bytes = 0

    @property
    def accounts(self) -> int:
        """Accounts that are remembered."""
        return len(self._lines)

    def find(self, account: str) -> AccountLine | None:
        """Return the line of ``account`` if it is remembered. Hot."""
        return self._lines.get(account)

    def arrived(self, account: str, weight: float) -> AccountLine:
        """Return the line of ``account``, which has a request of ``weight`` now. Hot."""
        line = self._lines.get(account) or self._new_line(account)
        self.active_weight += weight - line.weight
        line.weight = weight
        return line

    def add(self, line: AccountLine, place: Place) -> None:
        """Let ``place`` wait."""
        line.add(place)
        self.sequences += place.work.sequences
        self.requests += 1
        self.body_bytes += place.work.body_bytes
        if line.requests == 1:
            line.tag = max(line.tag, self._virtual)
            self._backlogged[line.account] = line
        self._into_heap(line)

    def remove(self, line: AccountLine, place: Place) -> None:
        """Take ``place`` out of the line; the account's turn at the reserve comes last again."""
        line.remove(place)
        self.sequences -= place.work.sequences
        self.requests -= 1
        self.body_bytes -= place.work.body_bytes
        del self._backlogged[line.account]
        if line.requests:
            self._backlogged[line.account] = line

    def serve(self, line: AccountLine, place: Place, *, in_turn: bool) -> None:
        """Charge the account for ``place``, which waits no longer. Hot.

        ``in_turn``: it was served by a place that was free, not from the reserve.
        """
        work = place.work
        start = max(line.tag, self._virtual)
        if in_turn:
            self._virtual = start
        line.tag = start + place.charged_tokens / WEIGHTS[work.sla_tier]
        line.in_use += work.sequences

    def waits_on(self, line: AccountLine, place: Place) -> None:
        """Put the account in line again after ``place`` of it was served, if more of it waits."""
        if line.requests:
            line.charge_tier(place)
            self._into_heap(line)

    def least_served(self) -> AccountLine | None:
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

    def longest_unserved(self) -> Iterable[AccountLine]:
        """Return the accounts in line; the one that was served longest ago first."""
        return self._backlogged.values()

    def most_crowded(self) -> AccountLine:
        """Return the account with the most waiting work for its weight."""
        return max(self._backlogged.values(), key=_crowd)

    def rest(self, line: AccountLine) -> None:
        """Forget ``line`` if nothing of it is here and it had no more work than others."""
        if line.in_use or line.requests:
            return
        self.active_weight -= line.weight
        line.weight = 0.0
        if not self.active_weight:  # no account has work here: all tags start at 0 again
            self._lines.clear()
            self._heap.clear()
            self._virtual = 0.0
        elif line.tag <= self._virtual and not line.in_heap:
            del self._lines[line.account]

    def _new_line(self, account: str) -> AccountLine:
        if len(self._lines) >= MAX_LINES:
            self._forget_idle()
        line = self._lines[account] = AccountLine(account, self._virtual)
        return line

    def _forget_idle(self) -> None:
        """Forget the accounts that have nothing here; the heap may name some of them."""
        self._lines = {one.account: one for one in self._lines.values() if one.weight > 0.0}
        for line in self._lines.values():
            line.in_heap = line.requests > 0
        self._heap = [(line.tag, line) for line in self._lines.values() if line.in_heap]
        heapify(self._heap)

    def _into_heap(self, line: AccountLine) -> None:
        if not line.in_heap:
            line.in_heap = True
            heappush(self._heap, (line.tag, line))


def _crowd(line: AccountLine) -> float:
    return line.waiting / line.weight
