"""What this agent knows of other nodes beyond the table: round trips, load, failures. Pure.

This is one agent's own view: a target that it cannot reach may be reachable for others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

from agent.core.fill import UNKNOWN_FILL
from agent.core.peer_state import EJECT_AFTER_FAILURES, REPORT_FRESH_MS, PeerState
from agent.core.samples import Sample, Samples
from protos.domain.router import UNKNOWN_TARGET, TargetState

#: Attempts in a row that were cut or overtaken because another target was sooner.
EJECT_AFTER_LATE = 3
#: An ejected target gets one request in so long (half-open); its first token ends the ejection.
TRIAL_EVERY_MS = 1_000.0
#: While its probes fail it gets none for so long after each: longer than a probe may take to fail,
#: so that a silent target stays ejected from one failed probe to the next.
EJECT_MS = 5_000.0
#: Placements of so long ago count for 1/e of one now.
DEMAND_WINDOW_MS = 600_000.0
#: Nodes remembered; over it the one known for longest that serves nothing is forgotten.
MAX_NODES = 4_096


@dataclass(frozen=True, slots=True)
class PeerView:
    """One line of the report to the coordinator."""

    node_id: str
    reachable: bool
    rtt_ms: float


class LiveState:
    """All nodes as this agent sees them. Mutable; used from one event loop."""

    def __init__(self) -> None:
        self._seen: dict[str, PeerState] = {}
        #: Times that a target was ejected, since the start.
        self.ejections = 0

    def targets(
        self,
        node_ids: Iterable[str],
        now_mono_ms: float,
        is_warm: Callable[[str], bool],
        cached_ratios: Mapping[str, float],
        *,
        spare_late: bool = False,
    ) -> dict[str, TargetState]:
        """Return what the router should know of each of ``node_ids`` now. Hot.

        ``spare_late``: a node with late first tokens only is not left alone; for a request that no
        other node can take. A node's state is worked out once between two changes of it.
        """
        seen_of = self._seen.get
        found: dict[str, TargetState] = {}
        for node_id in node_ids:
            seen = seen_of(node_id)
            if seen is None:
                found[node_id] = UNKNOWN_TARGET
                continue
            state, warm = seen.state, is_warm(node_id)
            if (
                state is None
                or now_mono_ms >= seen.state_until_mono_ms
                or state.warm is not warm
                or spare_late
            ):
                state = seen.look(now_mono_ms, warm=warm, spare_late=spare_late)
            if state.backlog_tokens or node_id in cached_ratios:
                state = TargetState(
                    state.rtt_ms_p50,
                    state.rtt_ms_p99,
                    state.in_flight,
                    state.queued,
                    warm,
                    state.ejected,
                    state.ready_models,
                    cached_ratios.get(node_id, 0.0),
                    state.backlog_tokens,
                    seen.backlog.progress_ms(now_mono_ms),
                )
            found[node_id] = state
        return found

    def backlog(self, node_id: str, now_mono_ms: float) -> tuple[float, float]:
        """Return prompt tokens sent there without a first token, and for how long none came."""
        seen = self._seen.get(node_id)
        if seen is None:
            return 0.0, 0.0
        return seen.backlog.tokens, seen.backlog.progress_ms(now_mono_ms)

    def is_ejected(self, node_id: str, now_mono_ms: float, *, spare_late: bool = False) -> bool:
        """Whether ``node_id`` is left alone now; False also when its next trial is due."""
        seen = self._seen.get(node_id)
        return seen is not None and seen.is_left_alone(now_mono_ms, spare_late=spare_late)

    @property
    def ejected_now(self) -> int:
        """Targets that are ejected, those on trial included."""
        return sum(seen.ejected for seen in self._seen.values())

    def fill_ratio(self, node_id: str, now_mono_ms: float) -> float:
        """Return the fill that ``node_id`` reported, ``UNKNOWN_FILL`` without a fresh report."""
        seen = self._seen.get(node_id)
        if seen is None or now_mono_ms - seen.reported_mono_ms >= REPORT_FRESH_MS:
            return UNKNOWN_FILL
        reported = seen.reported_fill_ratio
        return UNKNOWN_FILL if reported is None else reported

    def request_started(self, node_id: str, now_mono_ms: float, prompt_tokens: float = 0.0) -> int:
        """A request was placed there; of an ejected target it is the trial. Hot.

        Return the key of its prompt for ``first_token`` and ``request_ended``; 0 for a request
        whose first token cannot be seen (``prompt_tokens`` is 0).
        """
        seen = self._of(node_id)
        seen.own_in_flight += 1
        seen.starts_mono_ms.append(now_mono_ms)
        if seen.ejected:
            seen.next_trial_mono_ms = now_mono_ms + TRIAL_EVERY_MS
        seen.placements = seen.placements * _faded(now_mono_ms - seen.placed_mono_ms) + 1.0
        seen.placed_mono_ms = now_mono_ms
        return seen.backlog.add(prompt_tokens, now_mono_ms) if prompt_tokens > 0.0 else 0

    def first_token(self, node_id: str, prompt: int, now_mono_ms: float) -> None:
        """The first token for the prompt of key ``prompt`` came from there. Hot.

        It ends a row of late ones, and an ejection: a whole answer may take minutes. Of a target
        that had failed, one more failure ejects it again until an answer is complete.
        """
        seen = self._of(node_id)
        seen.backlog.first_token(prompt, now_mono_ms)
        if seen.lates or seen.ejected:
            seen.lates, seen.ejected = 0, False
            seen.failures = min(seen.failures, EJECT_AFTER_FAILURES - 1)

    def demand(self, node_id: str, now_mono_ms: float) -> float:
        """Return how many requests were placed there, older ones counting less."""
        seen = self._seen.get(node_id)
        if seen is None:
            return 0.0
        return seen.placements * _faded(now_mono_ms - seen.placed_mono_ms)

    def rtt_ms_p50(self, node_id: str) -> float | None:
        """Return the measured round trip, None if there is none."""
        seen = self._seen.get(node_id)
        return None if seen is None else seen.rtt_ms_p50

    def request_ended(self, node_id: str, prompt: int = 0) -> None:
        """A request left; ``prompt`` is the key of its prompt."""
        seen = self._of(node_id)
        seen.own_in_flight = max(0, seen.own_in_flight - 1)
        seen.backlog.take_off(prompt)

    def is_reachable(self, node_id: str) -> bool:
        """Whether the last probe reached ``node_id``; True before the first one."""
        seen = self._seen.get(node_id)
        return seen is None or seen.reachable is not False

    def in_flight(self, node_id: str) -> int:
        """Requests from this agent being served there."""
        seen = self._seen.get(node_id)
        return 0 if seen is None else seen.own_in_flight

    def succeeded(self, node_id: str) -> None:
        """A request was answered in time: ends an ejection, and every row of failures."""
        _forgive(self._of(node_id))

    def failed(self, node_id: str, now_mono_ms: float, *, of_link: bool = False) -> None:
        """A request failed; several in a row eject the target until one is answered.

        ``of_link``: the target was not reached, so that an answered probe ends the ejection.
        """
        seen = self._of(node_id)
        seen.failures += 1
        seen.by_link = seen.by_link and of_link
        seen.disturbed = True
        if seen.failures >= EJECT_AFTER_FAILURES:
            self._eject(seen, now_mono_ms)

    def late(self, node_id: str, now_mono_ms: float, *, another_in_time: bool = True) -> None:
        """An attempt was cut or overtaken before its first token. Not a failure.

        Counts only where ``another_in_time``: being late is no reason to leave a target alone
        while no other target is in time.
        """
        if not another_in_time:
            return
        seen = self._of(node_id)
        seen.by_link = False
        seen.disturbed = True
        seen.lates += 1
        if seen.lates >= EJECT_AFTER_LATE:
            self._eject(seen, now_mono_ms)

    def _eject(self, seen: PeerState, now_mono_ms: float) -> None:
        self.ejections += not seen.ejected
        seen.ejected = True
        seen.next_trial_mono_ms = now_mono_ms + TRIAL_EVERY_MS

    def probed(self, node_id: str, rtt_ms: float, now_mono_ms: float) -> None:
        """A probe was answered after ``rtt_ms``."""
        seen = self._of(node_id)
        if not seen.disturbed:
            seen.rtts_ms.append(rtt_ms)
            ordered = sorted(seen.rtts_ms)
            seen.rtt_ms_p50 = ordered[(len(ordered) - 1) // 2]
            seen.rtt_ms_p99 = ordered[math.ceil(0.99 * len(ordered)) - 1]
        seen.disturbed = False
        seen.reachable, seen.probed_mono_ms = True, now_mono_ms
        self.reached(node_id)

    def reached(self, node_id: str) -> None:
        """A probe was answered: ends an ejection unless a request failed beyond the link."""
        seen = self._of(node_id)
        seen.unprobed_until_mono_ms = -math.inf
        if seen.by_link:
            self.succeeded(node_id)

    def probe_failed(
        self, node_id: str, now_mono_ms: float, sent_mono_ms: float = math.inf
    ) -> None:
        """A probe that was sent at ``sent_mono_ms`` was not answered.

        That is no failure of a target that has answered a request since: it is alive, and its
        probe waits behind others.
        """
        seen = self._of(node_id)
        if seen.reported_mono_ms >= sent_mono_ms:
            seen.disturbed = True
            return
        seen.reachable, seen.probed_mono_ms = False, now_mono_ms
        seen.ready_models = None
        self.failed(node_id, now_mono_ms, of_link=True)
        if seen.ejected:
            seen.unprobed_until_mono_ms = now_mono_ms + EJECT_MS

    def reported(
        self,
        node_id: str,
        now_mono_ms: float,
        *,
        in_flight: int,
        queued: int,
        fill_ratio: float | None = None,
        ready_models: Iterable[str] | None = None,
        incarnation: str | None = None,
    ) -> None:
        """Take a target's report of its load, and of its models where it names them.

        Ignores reports older than the latest. ``incarnation``: which run of which engine serves
        there; failures of an earlier run are not this one's.
        """
        seen = self._of(node_id)
        if now_mono_ms < seen.reported_mono_ms:
            return
        seen.reported_fill_ratio = fill_ratio
        seen.take_report(in_flight, queued, now_mono_ms)
        if ready_models is not None:
            seen.ready_models = frozenset(ready_models)
            seen.ready_models_mono_ms = now_mono_ms
            if seen.engine_is(incarnation, ready=bool(seen.ready_models)):
                _forgive(seen)

    def engine_changed(self, node_id: str, incarnation: str, *, ready: bool) -> None:
        """This node's own engine changed its state: one that has become ready is used at once."""
        seen = self._of(node_id)
        if seen.engine_is(incarnation, ready=ready):
            _forgive(seen)

    def peer_views(self, now_mono_ms: float) -> list[PeerView]:
        """Return for each node with a fresh probe whether it was answered."""
        return [
            PeerView(node_id, seen.reachable, seen.rtt_ms_p50 or 0.0)
            for node_id, seen in self._seen.items()
            if seen.reachable is not None and now_mono_ms - seen.probed_mono_ms < REPORT_FRESH_MS
        ]

    def forget_all_but(self, nodes: Mapping[str, object]) -> None:
        """Drop nodes that have left the table and serve no request of this agent."""
        gone = [
            node_id
            for node_id, seen in self._seen.items()
            if node_id not in nodes and seen.own_in_flight == 0
        ]
        for node_id in gone:
            del self._seen[node_id]

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield how many targets are ejected, and how often that happened."""
        yield Sample("edgeforge_targets_ejected", "Targets ejected now.", float(self.ejected_now))
        yield Sample(
            "edgeforge_target_ejections",
            "Times a target was ejected.",
            float(self.ejections),
            counter=True,
        )

    def status(self, now_mono_ms: float) -> dict[str, object]:
        """Return the peers probed recently, and the ejections."""
        return {
            "peers": [asdict(peer) for peer in self.peer_views(now_mono_ms)],
            "first_byte": {"ejections": self.ejections, "ejected": self.ejected_now},
        }

    def _of(self, node_id: str) -> PeerState:
        """Return what is known of ``node_id``, to be changed."""
        seen = self._seen.get(node_id)
        if seen is None:
            if len(self._seen) >= MAX_NODES:
                idle = (name for name, one in self._seen.items() if one.own_in_flight == 0)
                if (longest_known := next(idle, None)) is not None:
                    del self._seen[longest_known]
            seen = self._seen[node_id] = PeerState()
        seen.state = None
        return seen


def _forgive(seen: PeerState) -> None:
    seen.failures = seen.lates = 0
    seen.ejected, seen.by_link = False, True
    seen.unprobed_until_mono_ms = -math.inf


def _faded(passed_ms: float) -> float:
    return math.exp(-max(0.0, passed_ms) / DEMAND_WINDOW_MS)
