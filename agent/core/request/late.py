"""What is done while the first token of a request is late: a second copy, or another target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.request.usage import billed_as
from protos.domain.trace import AttemptOutcome, AttemptPurpose

if TYPE_CHECKING:
    from agent.core.hedging import HedgeBudget
    from agent.core.request.attempt import Attempt
    from agent.core.request.bookkeeping import Bookkeeping
    from agent.core.request.messages import Cancel
    from agent.core.request.placing import Placer
    from agent.core.request.running import RunningAttempts
    from agent.core.request.timing import RequestTimers
    from protos.domain.router import Placement


class LateFirstToken:
    """Decides by what other targets are predicted to take at that moment."""

    __slots__ = ("_books", "_hedges", "_placer", "_running", "_timers")

    def __init__(
        self,
        hedges: HedgeBudget,
        placer: Placer,
        books: Bookkeeping,
        running: RunningAttempts,
        timers: RequestTimers,
    ) -> None:
        self._hedges = hedges
        self._placer = placer
        self._books = books
        self._running = running
        self._timers = timers

    def expect(self, attempt: Attempt, *, last: bool) -> None:
        """Set when another target is to be considered, from the prediction of this one. Hot.

        ``last``: no other attempt will follow.
        """
        other_ms = None if last else self._placer.other_ttft_ms_p99(attempt.placement)
        expectation = self._placer.expectation(attempt, other_ms)
        self._timers.expect(attempt, expectation, last=last, may_hedge=self._hedges.enabled)

    def second_copy(self, now_mono_ms: float) -> Attempt | None:
        """Return a second copy, if a target is in time for it and the share allows it."""
        running = self._running.attempts
        if len(running) != 1:
            return None
        placement = self._placer.second_copy(now_mono_ms)
        if placement is None or not self._hedges.take():
            return None
        # The customer pays the tier of the first copy: the second was this agent's decision.
        placement = billed_as(placement, running[0].placement)
        return self._running.begin(placement, AttemptPurpose.SECOND_COPY, now_mono_ms)

    def replacement(self, now_mono_ms: float) -> tuple[Cancel, Placement] | None:
        """Cut a late attempt if another target is predicted to be sooner; None: keep waiting.

        If two copies run, both must be late: the second one is checked, and the first one is cut.
        """
        running = self._running.attempts
        if not running:
            return None
        attempt, latest = running[0], running[-1]
        other = self._placer.another(now_mono_ms)
        if other is None:
            self._timers.look_again(latest, now_mono_ms)
            return None
        expectation = self._placer.expectation(latest, other.chosen.ttft_ms_p99)
        if not self._timers.is_late(latest, expectation, now_mono_ms):
            return None
        cancel = self._running.cut(attempt, AttemptOutcome.LATE, now_mono_ms)
        self._books.late(attempt, now_mono_ms, another_in_time=other.chosen.fits)
        self._placer.late |= {attempt.node_id}
        self._placer.finding = None
        return cancel, other
