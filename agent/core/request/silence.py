"""What is done about attempts of which nothing has come for long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.request.messages import Command, CutClient, DeadlinePassed, Rest
from agent.core.request.timing import EARLY_MS

if TYPE_CHECKING:
    from agent.core.request.attempt import Attempt
    from agent.core.request.placing import Placer
    from agent.core.request.reply import Reply
    from agent.core.request.running import RunningAttempts
    from agent.core.request.state import RouterState
    from agent.core.request.timing import RequestPolicy, RequestTimers


class SilentTargets:
    """Silent attempts whose target is gone are given up; all others keep waiting."""

    __slots__ = ("_placer", "_policy", "_reply", "_running", "_state", "_timers")

    def __init__(
        self,
        state: RouterState,
        policy: RequestPolicy,
        placer: Placer,
        running: RunningAttempts,
        timers: RequestTimers,
        reply: Reply,
    ) -> None:
        self._state = state
        self._policy = policy
        self._placer = placer
        self._running = running
        self._timers = timers
        self._reply = reply

    def check(
        self, event: DeadlinePassed, now_mono_ms: float
    ) -> tuple[list[Command], list[tuple[Attempt, str]]]:
        """Return the commands that end the request, if it ends, and the attempts to give up."""
        lost: list[tuple[Attempt, str]] = []
        self._timers.checked_silence(self._running.attempts, now_mono_ms)
        for attempt in list(self._running.attempts):
            silent_ms = now_mono_ms - max(attempt.began_mono_ms, attempt.last_read_mono_ms)
            if not self._timers.is_silent(silent_ms):
                continue
            answering = attempt is self._reply.answering
            if answering and event.client_stalled:
                gone = self._reply.client_gone(event.usage, None, now_mono_ms)
                return [*gone, CutClient()], []
            if silent_ms + EARLY_MS >= self._policy.max_wait_ms:
                return self._reply.wait_no_longer(self._policy, event.usage, now_mono_ms), []
            unreachable = not self._state.live.is_reachable(attempt.node_id)
            elsewhere = answering and event.rest is Rest.TEXT
            if unreachable or (
                elsewhere and self._placer.another(now_mono_ms, resumes=True) is not None
            ):
                lost.append((attempt, f"nothing came for {silent_ms:.0f} ms"))
        return [], lost
