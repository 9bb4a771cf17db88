"""The deadlines of one request: second copy, patience, silence, heartbeat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.attempts import first_token_deadline_ms
from agent.core.hedging import hedge_after_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.core.attempts import Expectation
    from agent.core.request.attempt import Attempt

#: How early a timer may fire: event loops count in whole milliseconds.
EARLY_MS = 1.0
#: While no other target would be sooner, this is checked again after this time, or after this share
#: of the time waited so far if that is more: each check costs a placement.
LOOK_AGAIN_MS = 1_000.0
LOOK_AGAIN_RATIO = 0.25


@dataclass(frozen=True, slots=True)
class RequestPolicy:
    """The limits of every request of one agent."""

    #: Targets asked one after the other before the first byte.
    max_attempts: int = 3
    #: After this time without a byte the client is sent a heartbeat; 0: never.
    heartbeat_ms: float = 5_000.0
    #: After this time without a byte from a target, check whether it is still reachable, and
    #: whether the client still reads.
    stream_idle_ms: float = 120_000.0
    #: Longest wait for the first byte, and between two bytes.
    max_wait_ms: float = 21_600_000.0


class RequestTimers:
    """When each of one request's deadlines is due; inf if it is not set."""

    __slots__ = (
        "_beat_mono_ms",
        "_heartbeat_mono_ms",
        "_hedge_mono_ms",
        "_idle_ms",
        "_patience_mono_ms",
        "_policy",
        "_silence_mono_ms",
    )

    def __init__(self, policy: RequestPolicy) -> None:
        self._policy = policy
        self._idle_ms = min(policy.stream_idle_ms, policy.max_wait_ms)
        self._hedge_mono_ms = math.inf
        self._patience_mono_ms = math.inf
        self._silence_mono_ms = math.inf
        self._heartbeat_mono_ms = math.inf
        self._beat_mono_ms = 0.0

    @property
    def next_mono_ms(self) -> float:
        """When the first of them is due."""
        return min(
            self._hedge_mono_ms,
            self._patience_mono_ms,
            self._silence_mono_ms,
            self._heartbeat_mono_ms,
        )

    def begin(self, now_mono_ms: float, *, stream: bool) -> None:
        """Start the deadlines of silence and heartbeat."""
        policy = self._policy
        self._silence_mono_ms = now_mono_ms + self._idle_ms
        if stream and policy.heartbeat_ms > 0.0:
            self._beat_mono_ms = now_mono_ms
            self._heartbeat_mono_ms = now_mono_ms + policy.heartbeat_ms

    # -- second copy and patience: until the first token

    def expect(
        self, attempt: Attempt, expectation: Expectation, *, last: bool, may_hedge: bool
    ) -> None:
        """Set the deadlines of ``attempt``; ``last``: no other attempt will follow."""
        self._hedge_mono_ms = self._patience_mono_ms = math.inf
        if last:
            return
        began_mono_ms, finding = attempt.began_mono_ms, attempt.finding
        if expectation.other_ttft_ms_p99 is None:
            patience_ms = max(LOOK_AGAIN_MS, expectation.ttft_ms_p99)
        else:
            patience_ms = first_token_deadline_ms(expectation)
            if finding is not None and finding.patience_ms < patience_ms:
                patience_ms = finding.patience_ms
            if may_hedge:
                prediction = attempt.placement.chosen.prediction
                self._hedge_mono_ms = began_mono_ms + hedge_after_ms(prediction)
        self._patience_mono_ms = began_mono_ms + patience_ms

    def is_late(self, attempt: Attempt, expectation: Expectation, now_mono_ms: float) -> bool:
        """Whether ``attempt`` is to be replaced by the other target of ``expectation`` now.

        If not, the next check is set.
        """
        finding = attempt.finding
        waited_ms = now_mono_ms - attempt.began_mono_ms + EARLY_MS
        late_ms = first_token_deadline_ms(expectation)
        if finding is not None:
            late_ms = min(late_ms, finding.patience_ms)
        if waited_ms >= late_ms:
            return True
        self.look_again(attempt, now_mono_ms)
        self._patience_mono_ms = min(self._patience_mono_ms, attempt.began_mono_ms + late_ms)
        return False

    def look_again(self, attempt: Attempt, now_mono_ms: float) -> None:
        """Set the next check: no other target would be sooner now, but one may be later."""
        waited_ms = now_mono_ms - attempt.began_mono_ms
        self._patience_mono_ms = now_mono_ms + max(LOOK_AGAIN_MS, LOOK_AGAIN_RATIO * waited_ms)

    def one_left(self, now_mono_ms: float) -> None:
        """One of two copies failed: check now whether the other is late."""
        self._hedge_mono_ms = math.inf
        self._patience_mono_ms = now_mono_ms

    def answering(self) -> None:
        """A first token came: no other target is asked any more."""
        self._hedge_mono_ms = self._patience_mono_ms = math.inf

    def hedge_is_due(self, now_mono_ms: float) -> bool:
        """Whether a second copy may be sent now; True once."""
        if now_mono_ms + EARLY_MS < self._hedge_mono_ms:
            return False
        self._hedge_mono_ms = math.inf
        return True

    def patience_is_due(self, now_mono_ms: float) -> bool:
        """Whether another target is to be considered now; True once."""
        if now_mono_ms + EARLY_MS < self._patience_mono_ms:
            return False
        self._patience_mono_ms = math.inf
        return True

    # -- silence

    def silence_is_due(self, now_mono_ms: float) -> bool:
        """Whether it is time to check for silent attempts."""
        return now_mono_ms + EARLY_MS >= self._silence_mono_ms

    def checked_silence(self, running: Sequence[Attempt], now_mono_ms: float) -> None:
        """Set the next check: when the first of ``running`` could have been silent too long."""
        idle_ms = self._idle_ms
        due_mono_ms = now_mono_ms + idle_ms
        for attempt in running:
            at_mono_ms = max(attempt.began_mono_ms, attempt.last_read_mono_ms) + idle_ms
            if now_mono_ms + EARLY_MS < at_mono_ms < due_mono_ms:
                due_mono_ms = at_mono_ms
        self._silence_mono_ms = due_mono_ms

    def is_silent(self, silent_ms: float) -> bool:
        """Whether an attempt has been silent long enough to check its target."""
        return silent_ms + EARLY_MS >= self._idle_ms

    # -- heartbeat

    def heartbeat_is_due(self, now_mono_ms: float) -> bool:
        """Whether the client may need a sign of life."""
        return now_mono_ms + EARLY_MS >= self._heartbeat_mono_ms

    def beat(self, answering: Attempt | None, now_mono_ms: float) -> bool:
        """Whether the client has had no byte for ``heartbeat_ms``; sets the next check."""
        heartbeat_ms = self._policy.heartbeat_ms
        last_mono_ms = self._beat_mono_ms
        if answering is not None:
            last_mono_ms = max(last_mono_ms, answering.last_read_mono_ms)
        due_mono_ms = last_mono_ms + heartbeat_ms
        if now_mono_ms + EARLY_MS < due_mono_ms:
            self._heartbeat_mono_ms = due_mono_ms
            return False
        self._beat_mono_ms = now_mono_ms
        self._heartbeat_mono_ms = now_mono_ms + heartbeat_ms
        return True
