"""Which piece of an object is asked of which source next. Pure.

Sources have a rank: the nodes of this POP, those of its zone, then the origin. Of the sources that
have a piece the one of the best rank with a free place is asked, then the fastest. The origin is
asked only for what no other source has: of several nodes that pull at the same time each asks it
for an own share of the pieces, and the rest goes from node to node. When nothing has come for
``patience_ms``, the origin is asked for anything.

A piece is never asked of two sources at once. One that is late at a source is *abandoned* there
first, if another source has it. A source that was late or failed is left alone for a time that
doubles, is on probation until it has sent a piece, and is asked for what no better one has; one
that sent wrong bytes is struck off for ``struck_ms``.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.core.backoff import BackoffPolicy, full_jitter_ms

if TYPE_CHECKING:
    from agent.core.pull_budget import PullBudget


#: A source that failed is left alone for at least so long, and the planner is asked at this pace.
_LEAST_WAIT_MS = 50.0
#: ... and at this one where nothing is expected.
_MOST_WAIT_MS = 1_000.0


class Rank(enum.IntEnum):
    """Where a source is; lower is asked first."""

    POP = 0
    ZONE = 1
    ORIGIN = 2


@dataclass(frozen=True, slots=True)
class PullPolicy:
    """Limits of one pull."""

    #: Pieces asked of one source at a time.
    max_in_flight: int = 3
    #: When nothing has come for so long, the origin is asked for what others should have had.
    patience_ms: float = 8_000.0
    #: A piece is late after so long, or ``late_factor`` times what its source usually takes, but
    #: not more than ``max_late_ms``.
    late_ms: float = 5_000.0
    late_factor: float = 4.0
    max_late_ms: float = 60_000.0
    #: A source that sent wrong bytes is not asked for so long.
    struck_ms: float = 600_000.0
    retry: BackoffPolicy = field(default_factory=lambda: BackoffPolicy(250.0, 15_000.0))


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask ``source`` for ``piece``."""

    source: str
    piece: int


@dataclass(frozen=True, slots=True)
class Abandon:
    """Stop waiting for ``piece`` at ``source``; nothing that comes from there is used."""

    source: str
    piece: int


Command = Fetch | Abandon


@dataclass(slots=True)
class Source:
    """What is known of one source. ``have`` has bit n set for piece n."""

    name: str
    rank: Rank
    have: int = 0
    #: Pieces that it said it had, and had not.
    denied: int = 0
    in_flight: int = 0
    failures: int = 0
    usual_ms: float = 0.0
    not_before_mono_ms: float = -math.inf
    struck: bool = False


@dataclass(slots=True)
class _Asked:
    source: Source
    since_mono_ms: float


@dataclass(slots=True)
class ChunkPlanner:
    """The pieces of one object; ``missing`` has bit n set for piece n.

    ``first`` is the piece that this node begins with, so that several nodes begin apart.
    """

    sizes: Sequence[int]
    missing: int
    policy: PullPolicy
    budget: PullBudget
    first: int
    now_mono_ms: float
    sources: dict[str, Source] = field(default_factory=dict)
    #: Pieces that this node asks the origin for at once; the others when patience ends.
    own_share: int = -1
    _asked: dict[int, _Asked] = field(default_factory=dict)
    _flying: int = 0
    _came_mono_ms: float = 0.0
    _shares_no_more: bool = False

    def __post_init__(self) -> None:
        self._came_mono_ms = self.now_mono_ms

    # -- sources ---------------------------------------------------------------------------------

    def source_found(self, name: str, rank: Rank, have: int) -> None:
        """Add a source, or note which pieces a known one has now."""
        source = self.sources.get(name)
        if source is None:
            source = self.sources[name] = Source(name, rank)
        source.rank, source.have = rank, have & ~source.denied

    def source_lost(self, name: str) -> list[Abandon]:
        """Forget a source, which is no longer in the table; what it was asked for is abandoned.

        A source that sent wrong bytes stays known, and struck off.
        """
        source = self.sources.get(name)
        if source is None:
            return []
        left = [Abandon(name, piece) for piece, one in self._asked.items() if one.source is source]
        for abandoned in left:
            self._land(abandoned.piece)
        source.have = 0
        if not source.struck:
            del self.sources[name]
        return left

    # -- what happened ---------------------------------------------------------------------------

    def arrived(self, piece: int, now_mono_ms: float) -> None:
        """A piece was verified and written."""
        asked = self._land(piece)
        took_ms = now_mono_ms - asked.since_mono_ms
        source = asked.source
        source.usual_ms = took_ms if not source.usual_ms else (source.usual_ms * 3 + took_ms) / 4
        source.failures = 0
        self.missing &= ~(1 << piece)
        self._came_mono_ms = now_mono_ms

    def was_wrong(self, piece: int, now_mono_ms: float) -> None:
        """A piece had another digest: its source is struck off."""
        source = self._land(piece).source
        source.struck = True
        source.failures += 1
        source.not_before_mono_ms = now_mono_ms + self.policy.struck_ms

    def failed(
        self, piece: int, now_mono_ms: float, draw: float, retry_after_ms: float = 0.0
    ) -> None:
        """A piece did not come: its source is asked later."""
        self._back_off(self._land(piece).source, now_mono_ms, draw, retry_after_ms)

    def not_there(self, piece: int) -> None:
        """A source does not have a piece that it said it had."""
        source = self._land(piece).source
        source.denied |= 1 << piece
        source.have &= ~source.denied

    def put_back(self, piece: int) -> None:
        """A piece could not be written, or the pull ends: no source is at fault."""
        self._land(piece)

    # -- what to do ------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether every piece is there."""
        return not self.missing

    def hopeless(self) -> bool:
        """Return whether pieces are missing that only sources have which sent wrong bytes."""
        good = sum_of_have(one for one in self.sources.values() if not one.struck)
        return not self._asked and bool(self.missing & ~good)

    def is_good(self, name: str) -> bool:
        """Return whether a source has kept what it promised so far."""
        source = self.sources.get(name)
        return source is not None and not (source.failures or source.denied or source.struck)

    def at_hand(self, now_mono_ms: float) -> int:
        """Return how many pieces could be asked of a peer that has not failed."""
        return (self.missing & ~self._flying & self._at_good_peers(now_mono_ms)).bit_count()

    @property
    def asked(self) -> list[Fetch]:
        """What is being fetched."""
        return [Fetch(one.source.name, piece) for piece, one in self._asked.items()]

    def next_commands(self, now_mono_ms: float, draw: float) -> list[Command]:
        """Return what to do now; called after everything that happened, and at the deadline."""
        commands: list[Command] = list(self._abandon_late(now_mono_ms, draw))
        usable = [one for one in self.sources.values() if self._usable(one, now_mono_ms)]
        usable.sort(key=lambda one: (one.failures, one.rank, one.usual_ms, one.name))
        while (fetch := self._next_fetch(usable, now_mono_ms)) is not None:
            commands.append(fetch)
        return commands

    def next_deadline_ms(self, now_mono_ms: float) -> float:
        """Return when ``next_commands`` may have something new, if nothing happens before."""
        times = [self._late_mono_ms(one) for one in self._asked.values()]
        times += [
            one.not_before_mono_ms for one in self.sources.values() if one.have & self.missing
        ]
        times.append(self._came_mono_ms + self.policy.patience_ms)
        times.append(now_mono_ms + self.budget.wait_ms(max(self.sizes, default=0), now_mono_ms))
        later = [one for one in times if one > now_mono_ms]
        return max(now_mono_ms + _LEAST_WAIT_MS, min(later, default=now_mono_ms + _MOST_WAIT_MS))

    # -- inside ----------------------------------------------------------------------------------

    def _usable(self, source: Source, now_mono_ms: float) -> bool:
        if source.not_before_mono_ms > now_mono_ms:
            return False
        source.struck = False
        return source.in_flight < self._places(source)

    def _places(self, source: Source) -> int:
        """Return how many pieces a source is asked for at a time: one on probation."""
        return 1 if source.failures else self.policy.max_in_flight

    def _next_fetch(self, usable: list[Source], now_mono_ms: float) -> Fetch | None:
        """Take a free place at the best source and the rarest piece that it has."""
        wanted = self.missing & ~self._flying
        if not wanted:
            return None
        once = more = 0
        for one in self.sources.values():
            if one.rank is not Rank.ORIGIN and not one.struck:
                more |= once & one.have
                once |= one.have
        for source in usable:
            if source.in_flight >= self._places(source):
                continue
            choice = wanted & source.have
            if not self._impatient(now_mono_ms):
                if source.rank is Rank.ORIGIN and not self._shares_no_more:
                    choice &= self.own_share
                if source.rank is Rank.ORIGIN or source.failures:
                    choice &= ~self._at_good_peers(now_mono_ms)
            if not choice:
                continue
            piece = self._pick(choice & once & ~more or choice)
            if not self.budget.take(self.sizes[piece], now_mono_ms):
                return None
            source.in_flight += 1
            self._asked[piece] = _Asked(source, now_mono_ms)
            self._flying |= 1 << piece
            return Fetch(source.name, piece)
        return None

    def _at_good_peers(self, now_mono_ms: float) -> int:
        """Return the pieces that a source has which is not the origin and has not failed."""
        return sum_of_have(
            one
            for one in self.sources.values()
            if one.rank is not Rank.ORIGIN
            and not one.failures
            and one.not_before_mono_ms <= now_mono_ms
        )

    def _impatient(self, now_mono_ms: float) -> bool:
        waited_ms = now_mono_ms - self._came_mono_ms
        if waited_ms >= self.policy.patience_ms:
            self._shares_no_more = True
            return True
        return False

    def _pick(self, choice: int) -> int:
        """Return the first piece of ``choice`` from ``first`` on, around the end."""
        later = choice >> self.first
        if later:
            return self.first + (later & -later).bit_length() - 1
        return (choice & -choice).bit_length() - 1

    def _abandon_late(self, now_mono_ms: float, draw: float) -> list[Abandon]:
        late = [
            (piece, one)
            for piece, one in self._asked.items()
            if self._late_mono_ms(one) <= now_mono_ms
            and self._has_another(piece, one.source, now_mono_ms)
        ]
        for piece, one in late:
            self._land(piece)
            # a link on which every piece takes so long is slow, not broken: twice as long next time
            limit_ms = 2 * (now_mono_ms - one.since_mono_ms)
            one.source.usual_ms = max(one.source.usual_ms, limit_ms / self.policy.late_factor)
            self._back_off(one.source, now_mono_ms, draw, 0.0)
        return [Abandon(one.source.name, piece) for piece, one in late]

    def _has_another(self, piece: int, asked: Source, now_mono_ms: float) -> bool:
        return any(
            one is not asked and one.not_before_mono_ms <= now_mono_ms and one.have >> piece & 1
            for one in self.sources.values()
        )

    def _late_mono_ms(self, one: _Asked) -> float:
        usual_ms = one.source.usual_ms * self.policy.late_factor
        policy = self.policy
        return one.since_mono_ms + min(policy.max_late_ms, max(policy.late_ms, usual_ms))

    def _back_off(
        self, source: Source, now_mono_ms: float, draw: float, retry_after_ms: float
    ) -> None:
        source.failures += 1
        pause_ms = full_jitter_ms(self.policy.retry, source.failures, draw)
        until_mono_ms = now_mono_ms + max(_LEAST_WAIT_MS, pause_ms, retry_after_ms)
        source.not_before_mono_ms = max(source.not_before_mono_ms, until_mono_ms)

    def _land(self, piece: int) -> _Asked:
        asked = self._asked.pop(piece)
        asked.source.in_flight -= 1
        self._flying &= ~(1 << piece)
        self.budget.give_back()
        return asked


def sum_of_have(sources: Iterable[Source]) -> int:
    """Return the pieces that at least one of ``sources`` has."""
    have = 0
    for one in sources:
        have |= one.have
    return have
