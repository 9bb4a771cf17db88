"""What is asked for and is in no engine: loads at this node, and targets that no longer hold it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.request.messages import BecameResident, CouldNotLoad
from protos.domain.trace import AttemptOutcome

if TYPE_CHECKING:
    from agent.core.request.attempt import Attempt
    from agent.core.request.bookkeeping import Bookkeeping
    from agent.core.request.failures import Failures
    from agent.core.request.placing import Placer
    from agent.core.request.running import RunningAttempts
    from protos.domain.load_term import ColdWay

#: Times that a request goes back to a node whose engine no longer had what it asked for.
MAX_STALE = 8


class ColdTargets:
    """Neither a load nor an engine that holds something else now is a failure of its node."""

    __slots__ = ("_books", "_failures", "_placer", "_running", "_stale")

    def __init__(
        self, placer: Placer, books: Bookkeeping, running: RunningAttempts, failures: Failures
    ) -> None:
        self._placer = placer
        self._books = books
        self._running = running
        self._failures = failures
        self._stale = 0

    def is_here(self, attempt: Attempt, now_mono_ms: float) -> bool:
        """Whether this node's engine has what ``attempt`` asks for; else the attempt has ended."""
        if self._books.uses_engine(attempt):
            return True
        self._running.ended(attempt, now_mono_ms)
        self.stale(attempt, None, now_mono_ms)
        return False

    def loaded(self, event: BecameResident | CouldNotLoad, now_mono_ms: float) -> bool:
        """Whether an attempt goes on after its load at this node; else it has ended."""
        attempt = event.attempt
        if isinstance(event, BecameResident):
            if self._books.became_resident(event, now_mono_ms):
                return True
            self._running.ended(attempt, now_mono_ms)
            self.stale(attempt, None, now_mono_ms)
            return False
        why = event.error.message
        self._running.ended(attempt, now_mono_ms)
        self._failures.not_loaded(why)
        self._books.note(attempt, AttemptOutcome.NOT_SENT, now_mono_ms, why)
        return False

    def stale(self, attempt: Attempt, way: ColdWay | None, now_mono_ms: float) -> None:
        """Record that the engine of an ended attempt's target no longer had what it asked for.

        The same node may be asked again, which then loads it on ``way``.
        """
        self._books.stale(attempt, way)
        self._books.note(attempt, AttemptOutcome.STALE, now_mono_ms)
        self._stale += 1
        if self._stale <= MAX_STALE:
            self._placer.tried -= {attempt.node_id}
