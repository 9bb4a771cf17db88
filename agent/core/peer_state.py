"""One node as this agent has seen it: what was probed, told, sent and failed. Pure.

Kept by ``live``, which says what changes it; here is what follows from it at a moment.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from agent.core.backlog import Backlog
from protos.domain.router import TargetState

#: Probes remembered of each target: about a minute of them.
RTT_WINDOW = 64
#: Failures in a row after which a target is left alone.
EJECT_AFTER_FAILURES = 3
#: Starts remembered of each target, to know which of them its last word cannot have counted.
MAX_STARTS = 256
#: A target's own word on its load and its models counts for so long.
REPORT_FRESH_MS = 10_000.0
#: A target that claims to serve more than so many is believed no more.
MOST_TOLD = 1_000_000


@dataclass(slots=True)
class PeerState:
    """Everything about one node beyond the table; times are monotonic milliseconds."""

    rtts_ms: deque[float] = field(default_factory=lambda: deque(maxlen=RTT_WINDOW))
    rtt_ms_p50: float | None = None
    rtt_ms_p99: float | None = None
    own_in_flight: int = 0
    starts_mono_ms: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_STARTS))
    #: Requests of ours that were counted in what the target last told.
    reported_own: int = 0
    backlog: Backlog = field(default_factory=Backlog)
    placements: float = 0.0
    placed_mono_ms: float = -math.inf
    reported_in_flight: int = 0
    reported_queued: int = 0
    reported_fill_ratio: float | None = None
    reported_mono_ms: float = -math.inf
    ready_models: frozenset[str] | None = None
    ready_models_mono_ms: float = -math.inf
    failures: int = 0
    lates: int = 0
    ejected: bool = False
    #: Whether all of its failures were the way to it, which a probe tells about too.
    by_link: bool = True
    #: Whether something failed since the last probe: the next answer may have waited for the end
    #: of that, and tells how long the target was away, not how far it is.
    disturbed: bool = False
    next_trial_mono_ms: float = -math.inf
    unprobed_until_mono_ms: float = -math.inf
    reachable: bool | None = None
    probed_mono_ms: float = -math.inf
    #: Its state as it was worked out last, and until when time alone does not change it.
    state: TargetState | None = None
    state_until_mono_ms: float = -math.inf

    def look(self, now_mono_ms: float, *, warm: bool, spare_late: bool) -> TargetState:
        """Work out its state, but for what each request and each moment add to it."""
        in_flight, queued = self.load(now_mono_ms)
        told = now_mono_ms < self.ready_models_mono_ms + REPORT_FRESH_MS
        state = TargetState(
            self.rtt_ms_p50,
            self.rtt_ms_p99,
            in_flight,
            queued,
            warm,
            self.ejected and self.is_left_alone(now_mono_ms, spare_late=spare_late),
            self.ready_models if told else None,
            backlog_tokens=self.backlog.tokens,
        )
        if not spare_late:
            self.state, self.state_until_mono_ms = state, self._until(now_mono_ms)
        return state

    def load(self, now_mono_ms: float) -> tuple[int, int]:
        """Return how many requests are served there and wait there: its word, and ours since.

        What this agent has sent since the target spoke is added, or a burst would run to whoever
        was empty a second ago; what has ended since is taken off, first from the line.
        """
        own = self.own_in_flight
        if now_mono_ms >= self.reported_mono_ms + REPORT_FRESH_MS:
            return own, 0
        since = own - self.reported_own
        queued = self.reported_queued
        if since < 0:
            left = min(queued, -since)
            queued, since = queued - left, since + left
        return max(self.reported_in_flight + since, own - queued, 0), queued

    def told_load(self, in_flight: int, queued: int, now_mono_ms: float) -> None:
        """It says how loaded it is: what no host can serve at once is told as that."""
        self.reported_in_flight = min(max(0, in_flight), MOST_TOLD)
        self.reported_queued = min(max(0, queued), MOST_TOLD)
        self.reported_mono_ms = now_mono_ms
        self.reported_own = max(0, self.own_in_flight - self._uncounted(now_mono_ms))

    def is_left_alone(self, now_mono_ms: float, *, spare_late: bool) -> bool:
        """Whether it gets no request now; ``spare_late``: being late only is no reason."""
        if spare_late and self.failures < EJECT_AFTER_FAILURES:
            return False
        until_mono_ms = max(self.next_trial_mono_ms, self.unprobed_until_mono_ms)
        return self.ejected and now_mono_ms < until_mono_ms

    def _until(self, now_mono_ms: float) -> float:
        """Return when the next thing that is known of it stops being true by itself."""
        until_mono_ms = math.inf
        if self.ejected:
            trial_mono_ms = max(self.next_trial_mono_ms, self.unprobed_until_mono_ms)
            if trial_mono_ms > now_mono_ms:
                until_mono_ms = trial_mono_ms
        for told_mono_ms in (self.reported_mono_ms, self.ready_models_mono_ms):
            if now_mono_ms < told_mono_ms + REPORT_FRESH_MS < until_mono_ms:
                until_mono_ms = told_mono_ms + REPORT_FRESH_MS
        return until_mono_ms

    def _uncounted(self, now_mono_ms: float) -> int:
        """Return how many of our requests it cannot have counted when its word comes now.

        It spoke half a round trip ago, of what had been sent half a round trip before that.
        """
        counted_mono_ms = now_mono_ms - (self.rtt_ms_p50 or 0.0)
        uncounted = 0
        for started_mono_ms in reversed(self.starts_mono_ms):
            if started_mono_ms <= counted_mono_ms:
                break
            uncounted += 1
        return uncounted
