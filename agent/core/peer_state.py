"""One node as this agent sees it: its probes, reports, requests and failures. Pure.

``live`` changes the state; this module derives the load and the ejection at a given time.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.core.backlog import Backlog
from protos.domain.router import TargetState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.core.engine_admission import Newcomer
    from protos.domain.load_term import ColdWay

#: Probes remembered of each target: about a minute of them.
RTT_WINDOW = 64
#: Failures in a row after which a target is ejected.
EJECT_AFTER_FAILURES = 3
#: Request starts remembered for each target, to know which its latest report does not include.
MAX_STARTS = 256
#: A target's report of its load and its models is used for so long.
REPORT_FRESH_MS = 10_000.0
#: A report of more requests than this counts as this many.
MAX_REPORTED = 1_000_000


@dataclass(slots=True)
class PeerState:
    """Everything about one node beyond the table; times are monotonic milliseconds."""

    rtts_ms: deque[float] = field(default_factory=lambda: deque(maxlen=RTT_WINDOW))
    rtt_ms_p50: float | None = None
    rtt_ms_p99: float | None = None
    own_in_flight: int = 0
    #: Requests of this agent that it answered whole.
    answers: int = 0
    #: Answers for which it counted more tokens than is possible.
    overclaims: int = 0
    #: Times that its failures were forgotten on its word since its last answer.
    cleared_on_word: int = 0
    starts_mono_ms: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_STARTS))
    #: Requests of this agent that the target's latest report includes.
    reported_own: int = 0
    backlog: Backlog = field(default_factory=Backlog)
    placements: float = 0.0
    placed_mono_ms: float = -math.inf
    reported_in_flight: int = 0
    reported_queued: int = 0
    #: What a new account would meet there; None: what every account does.
    newcomer: Newcomer | None = None
    #: Sequences of this agent's accounts that are served or wait there.
    own_of_account: dict[str, int] = field(default_factory=dict)
    reported_fill_ratio: float | None = None
    reported_mono_ms: float = -math.inf
    ready_models: frozenset[str] | None = None
    #: What it would load for a request; None: its agent does not report that.
    loadable: Mapping[str, ColdWay] | None = None
    ready_models_mono_ms: float = -math.inf
    failures: int = 0
    lates: int = 0
    ejected: bool = False
    #: Whether all of its failures were failures to reach it, which an answered probe refutes.
    by_link: bool = True
    #: Whether a request failed since the last probe: the next answer may have waited behind it, so
    #: its time is not a round-trip time.
    disturbed: bool = False
    next_trial_mono_ms: float = -math.inf
    unprobed_until_mono_ms: float = -math.inf
    reachable: bool | None = None
    probed_mono_ms: float = -math.inf
    #: Which run of which engine serves there, None if unknown; and whether it was ready.
    incarnation: str | None = None
    engine_ready: bool | None = None
    #: Cached result of ``evaluate``, and until when it is valid without an event.
    state: TargetState | None = None
    state_until_mono_ms: float = -math.inf

    def evaluate(self, now_mono_ms: float, *, warm: bool, allow_late: bool) -> TargetState:
        """Return its state, without its cached prefixes and the age of its backlog."""
        in_flight, queued = self.load(now_mono_ms)
        is_fresh = now_mono_ms < self.ready_models_mono_ms + REPORT_FRESH_MS
        state = TargetState(
            self.rtt_ms_p50,
            self.rtt_ms_p99,
            in_flight,
            queued,
            warm,
            self.ejected and self.is_excluded(now_mono_ms, allow_late=allow_late),
            self.ready_models if is_fresh else None,
            backlog_tokens=self.backlog.tokens,
            answers=self.answers,
            own_in_flight=self.own_in_flight,
            loadable=self.loadable if is_fresh else None,
        )
        if not allow_late:
            self.state, self.state_until_mono_ms = state, self._until(now_mono_ms)
        return state

    def load(self, now_mono_ms: float) -> tuple[int, int]:
        """Return how many requests are served there and wait there, as of now.

        Requests that this agent sent since the target's report are added, otherwise a burst would
        go to a target that was empty a second ago; those that ended since are subtracted, waiting
        ones first.
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

    def count_own(self, account: str, sequences: int) -> None:
        """Count sequences of ``account`` that this agent sent there, or that ended."""
        self.own_in_flight = max(0, self.own_in_flight + sequences)
        left = self.own_of_account.get(account, 0) + sequences
        if left > 0:
            self.own_of_account[account] = left
        else:
            self.own_of_account.pop(account, None)

    def meets(self, account: str, state: TargetState, now_mono_ms: float) -> tuple[int, int, float]:
        """Return sequences served, those ahead in line, and backlog, as ``account`` meets them.

        An account that has less there than its share is served before those that have more.
        """
        in_flight, queued, newcomer = state.in_flight, state.queued, self.newcomer
        if newcomer is None or now_mono_ms >= self.reported_mono_ms + REPORT_FRESH_MS:
            return in_flight, queued, state.backlog_tokens
        own = self.own_of_account.get(account, 0)
        backlog_tokens = self.backlog.tokens_before(account, queued)
        if own < newcomer.share:
            since = min(own, max(0, self.own_in_flight - self.reported_own))
            return min(in_flight, newcomer.in_flight + since), newcomer.queued, backlog_tokens
        ahead = max(newcomer.queued, own - newcomer.share)
        return in_flight, min(queued, ahead), backlog_tokens

    def take_report(
        self, in_flight: int, queued: int, now_mono_ms: float, newcomer: Newcomer | None = None
    ) -> None:
        """Take the target's report of its load, limited to ``MAX_REPORTED``."""
        crowded = newcomer is not None and (newcomer.in_flight, newcomer.queued) != (
            in_flight,
            queued,
        )
        self.newcomer = newcomer if crowded else None
        self.reported_in_flight = min(max(0, in_flight), MAX_REPORTED)
        self.reported_queued = min(max(0, queued), MAX_REPORTED)
        self.reported_mono_ms = now_mono_ms
        self.reported_own = max(0, self.own_in_flight - self._uncounted(now_mono_ms))

    def holds(self, name: str, way: ColdWay | None, *, resident: bool) -> None:
        """Take its word in an answer whether ``name`` is in its engine, or how it would load it."""
        if self.ready_models is None:
            return
        others = {one: known for one, known in (self.loadable or {}).items() if one != name}
        if resident:
            self.ready_models |= {name}
        else:
            self.ready_models -= {name}
            self.loadable = others if way is None else others | {name: way}

    def engine_is(self, incarnation: str | None, *, ready: bool) -> bool:
        """Record which engine run serves there; return whether it has just become ready.

        True for another run of an engine, and for one that was not ready before; False for the
        first report. ``incarnation`` None: the report does not name the run.
        """
        was_ready, was = self.engine_ready, self.incarnation
        self.engine_ready = ready
        if incarnation is not None and ready:
            self.incarnation = incarnation
        is_another = None not in (incarnation, was) and incarnation != was
        return ready and (was_ready is False or is_another)

    def is_excluded(self, now_mono_ms: float, *, allow_late: bool) -> bool:
        """Whether it gets no request now. ``allow_late``: not if only first tokens were late."""
        if allow_late and self.failures < EJECT_AFTER_FAILURES:
            return False
        until_mono_ms = max(self.next_trial_mono_ms, self.unprobed_until_mono_ms)
        return self.ejected and now_mono_ms < until_mono_ms

    def _until(self, now_mono_ms: float) -> float:
        """Return when its state changes next without an event."""
        until_mono_ms = math.inf
        if self.ejected:
            trial_mono_ms = max(self.next_trial_mono_ms, self.unprobed_until_mono_ms)
            if trial_mono_ms > now_mono_ms:
                until_mono_ms = trial_mono_ms
        for reported_mono_ms in (self.reported_mono_ms, self.ready_models_mono_ms):
            if now_mono_ms < reported_mono_ms + REPORT_FRESH_MS < until_mono_ms:
                until_mono_ms = reported_mono_ms + REPORT_FRESH_MS
        return until_mono_ms

    def _uncounted(self, now_mono_ms: float) -> int:
        """Return how many of this agent's requests a report that arrives now cannot include.

        The report was made half a round trip ago and includes requests that were sent half a round
        trip before that.
        """
        counted_mono_ms = now_mono_ms - (self.rtt_ms_p50 or 0.0)
        uncounted = 0
        for started_mono_ms in reversed(self.starts_mono_ms):
            if started_mono_ms <= counted_mono_ms:
                break
            uncounted += 1
        return uncounted
