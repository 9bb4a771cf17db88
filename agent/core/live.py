"""What this agent knows of other nodes beyond the table: round trips, load, failures. Pure.

Everything here is this agent's own view; a target that it cannot reach may be well for others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

from agent.core.fill import UNKNOWN_FILL
from agent.core.peer_state import EJECT_AFTER_FAILURES, REPORT_FRESH_MS, PeerState
from agent.core.samples import Sample, Samples
from protos.domain.router import UNKNOWN_TARGET, TargetState

#: First tokens in a row that were too late while another could be asked: cut, or overtaken.
EJECT_AFTER_LATE = 3
#: An ejected target gets one request in so long (half-open); its answer ends the ejection.
TRIAL_EVERY_MS = 1_000.0
#: While its probes fail it gets none, for so long after each: longer than a probe may take to fail,
#: so that a target that stays silent stays ejected from one failed probe to the next.
EJECT_MS = 5_000.0
#: Placements of so long ago count for 1/e of one now.
DEMAND_WINDOW_MS = 600_000.0
#: Nodes remembered beside those being served by; the one known for longest is forgotten first.
MAX_NODES = 4_096


@dataclass(frozen=True, slots=True)
class PeerView:
    """One line of the report to the coordinator."""

    node_id: str
    reachable: bool
    rtt_ms: float


class LiveState:
    """Mutable, and fed from one event loop; time comes in with every call."""

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

        ``spare_late``: one that is only late is not left alone, since nobody else is left. A node's
        state is worked out once between two changes of it.
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
        """Return prompt tokens on their way there, and for how long none has been taken in."""
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
        """Return how full ``node_id`` said it is, or ``UNKNOWN_FILL`` when it has not lately."""
        seen = self._seen.get(node_id)
        if seen is None or now_mono_ms - seen.reported_mono_ms >= REPORT_FRESH_MS:
            return UNKNOWN_FILL
        told = seen.reported_fill_ratio
        return UNKNOWN_FILL if told is None else told

    def request_started(self, node_id: str, now_mono_ms: float, prompt_tokens: float = 0.0) -> int:
        """A request was placed there: of an ejected target it is the trial. Hot.

        Return the key of its prompt for ``first_token`` and ``request_ended``; 0 without tokens,
        since nobody will see when its first token comes.
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
        """The prompt of key ``prompt`` was taken in there."""
        self._of(node_id).backlog.first_token(prompt, now_mono_ms)

    def demand(self, node_id: str, now_mono_ms: float) -> float:
        """Return how many requests were placed there lately, older ones counting less."""
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
        """A request got its answer, in time: all is forgiven."""
        seen = self._of(node_id)
        seen.failures = seen.lates = 0
        seen.ejected, seen.by_link = False, True
        seen.unprobed_until_mono_ms = -math.inf

    def failed(self, node_id: str, now_mono_ms: float, *, of_link: bool = False) -> None:
        """A request failed; several in a row eject the target until one is answered.

        ``of_link``: the target was not reached, so that a probe that reaches it forgives.
        """
        seen = self._of(node_id)
        seen.failures += 1
        seen.by_link = seen.by_link and of_link
        seen.disturbed = True
        if seen.failures >= EJECT_AFTER_FAILURES:
            self._eject(seen, now_mono_ms)

    def late(self, node_id: str, now_mono_ms: float) -> None:
        """A first token was too late while another target could be asked. Not a failure."""
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
        """A probe was answered: the way is open. Whether requests are, only they tell."""
        seen = self._of(node_id)
        seen.unprobed_until_mono_ms = -math.inf
        if seen.by_link:
            self.succeeded(node_id)

    def probe_failed(self, node_id: str, now_mono_ms: float) -> None:
        """A probe was not answered."""
        seen = self._of(node_id)
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
    ) -> None:
        """The target said how loaded it is, and perhaps what it can serve. Late news are none."""
        seen = self._of(node_id)
        if now_mono_ms < seen.reported_mono_ms:
            return
        seen.reported_fill_ratio = fill_ratio
        seen.told_load(in_flight, queued, now_mono_ms)
        if ready_models is not None:
            seen.ready_models = frozenset(ready_models)
            seen.ready_models_mono_ms = now_mono_ms

    def peer_views(self, now_mono_ms: float) -> list[PeerView]:
        """Return whom this agent reached lately, and whom not."""
        return [
            PeerView(node_id, seen.reachable, seen.rtt_ms_p50 or 0.0)
            for node_id, seen in self._seen.items()
            if seen.reachable is not None and now_mono_ms - seen.probed_mono_ms < REPORT_FRESH_MS
        ]

    def forget_all_but(self, nodes: Mapping[str, object]) -> None:
        """Drop nodes that have left the table and serve nothing of ours."""
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


def _faded(passed_ms: float) -> float:
    return math.exp(-max(0.0, passed_ms) / DEMAND_WINDOW_MS)
