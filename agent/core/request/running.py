"""The running attempts of one request: begun, ended, or cut in favour of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.request.attempt import Attempt, TokenTimes
from agent.core.request.messages import Cancel, Command
from protos.domain.residency import is_inside, zone_of
from protos.domain.trace import AttemptOutcome

if TYPE_CHECKING:
    from agent.core.request.bookkeeping import Bookkeeping
    from agent.core.request.context import RequestContext
    from agent.core.request.placing import Placer
    from agent.core.request.state import RouterState
    from protos.domain.router import Placement
    from protos.domain.trace import AttemptPurpose


class RunningAttempts:
    """At most two at a time: a first copy and a second one."""

    __slots__ = ("_books", "_made", "_placer", "_state", "attempts")

    def __init__(self, state: RouterState, placer: Placer, books: Bookkeeping) -> None:
        self._state = state
        self._placer = placer
        self._books = books
        self._made = 0
        #: In the order in which they were asked.
        self.attempts: list[Attempt] = []

    def begin(
        self,
        placement: Placement,
        purpose: AttemptPurpose,
        now_mono_ms: float,
        resumes: Attempt | None = None,
    ) -> Attempt:
        """Return a new attempt, which must be asked at once."""
        state, placer = self._state, self._placer
        node_id = placement.chosen.node.id
        count_fill = state.own_fill.count if node_id == state.node_id else None
        if resumes is None:
            tokens = TokenTimes(count_fill)
        else:
            tokens = resumes.tokens
            tokens.also = count_fill
        self._made += 1
        attempt = Attempt(
            self._made, placement, purpose, now_mono_ms, placer.budget_left_ms, tokens, resumes
        )
        placer.tried |= {node_id}
        self.attempts.append(attempt)
        self._books.asked(attempt)
        return attempt

    def ended(self, attempt: Attempt, now_mono_ms: float) -> None:
        """Remove ``attempt``, which has ended by itself."""
        self.attempts.remove(attempt)
        self._books.left(attempt, now_mono_ms, cut=False)

    def cut(self, attempt: Attempt, outcome: AttemptOutcome, now_mono_ms: float) -> Cancel:
        """Cut ``attempt``, which might still have answered."""
        self.attempts.remove(attempt)
        abandoned = outcome is AttemptOutcome.CLIENT_GONE
        self._books.left(attempt, now_mono_ms, cut=True, abandoned=abandoned)
        self._books.note(attempt, outcome, now_mono_ms)
        return Cancel(attempt)

    def cut_all(self, outcome: AttemptOutcome, now_mono_ms: float) -> list[Command]:
        """Cut every running attempt."""
        return [self.cut(attempt, outcome, now_mono_ms) for attempt in list(self.attempts)]

    def on_lost_nodes(self, request: RequestContext) -> list[Attempt]:
        """Return the running attempts whose node has left the table or the request's zones. Hot."""
        view = self._state.view()
        nodes, zones = view.nodes, request.zones_in(view)
        return [
            attempt
            for attempt in self.attempts
            if attempt.node_id not in nodes or not is_inside(zone_of(view, attempt.node_id), zones)
        ]

    def overtaken_by(self, winner: Attempt, now_mono_ms: float) -> list[Command]:
        """Cut every attempt except ``winner``; those begun before it count as late."""
        commands: list[Command] = []
        if len(self.attempts) > 1 or (self.attempts and self.attempts[0] is not winner):
            in_time = winner.placement.chosen.fits
            for other in [one for one in self.attempts if one is not winner]:
                commands.append(self.cut(other, AttemptOutcome.OVERTAKEN, now_mono_ms))
                if other.number < winner.number:
                    self._books.late(other, now_mono_ms, another_in_time=in_time)
        return commands
