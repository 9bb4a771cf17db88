"""What this agent knows of other nodes beyond the table: round trips, load, failures. Pure.

This is one agent's own view: a target that it cannot reach may be reachable from other agents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from agent.core.fill import UNKNOWN_FILL
from agent.core.peer_state import EJECT_AFTER_FAILURES, MAX_STARTS, REPORT_FRESH_MS, PeerState
from agent.core.samples import Sample, Samples
from protos.domain.router import UNKNOWN_TARGET, TargetState

if TYPE_CHECKING:
    from agent.core.engine_admission import Newcomer
    from protos.domain.load_term import ColdWay

#: Attempts in a row that were cut or overtaken because another target was sooner.
EJECT_AFTER_LATE = 3
#: An ejected target gets one trial request in this time; its first token ends the ejection.
TRIAL_EVERY_MS = 1_000.0
#: After a failed probe an ejected target gets no request for this time, which is longer than a
#: probe's limit: a silent one stays ejected.
EJECT_MS = 5_000.0
#: Times that an answered probe, or another run of its engine, clears the failures of a target that
#: answers no request in between. After that only requests do, one a second.
MAX_CLEARED_ON_WORD = 3
#: A placement this long ago counts 1/e of a new one.
DEMAND_WINDOW_MS = 600_000.0
#: Nodes that a status complains of.
MAX_COMPLAINTS = 256
#: Limit of nodes remembered; beyond it, the node known for longest without a request is dropped.
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
        self._peers: dict[str, PeerState] = {}
        #: Times that a target was ejected, since the start.
        self.ejections = 0

    def targets(
        self,
        node_ids: Iterable[str],
        now_mono_ms: float,
        is_warm: Callable[[str], bool],
        cached_ratios: Mapping[str, float],
        *,
        allow_late: bool = False,
        account: str = "",
    ) -> dict[str, TargetState]:
        """Return the state of each of ``node_ids`` for the router, as ``account`` meets it. Hot.

        ``allow_late``: nodes ejected only for late first tokens are not ejected for this request,
        which no other node can take. A node's state is cached until it changes.
        """
        peer_of = self._peers.get
        found: dict[str, TargetState] = {}
        for node_id in node_ids:
            peer = peer_of(node_id)
            if peer is None:
                found[node_id] = UNKNOWN_TARGET
                continue
            state, warm = peer.state, is_warm(node_id)
            if (
                state is None
                or now_mono_ms >= peer.state_until_mono_ms
                or state.warm is not warm
                or allow_late
            ):
                state = peer.evaluate(now_mono_ms, warm=warm, allow_late=allow_late)
            if state.backlog_tokens or peer.newcomer is not None or node_id in cached_ratios:
                in_flight, queued, backlog_tokens = peer.meets(account, state, now_mono_ms)
                state = TargetState(
                    state.rtt_ms_p50,
                    state.rtt_ms_p99,
                    in_flight,
                    queued,
                    warm,
                    state.ejected,
                    state.ready_models,
                    cached_ratios.get(node_id, 0.0),
                    backlog_tokens,
                    peer.backlog.progress_ms(now_mono_ms),
                    state.answers,
                    state.own_in_flight,
                    state.loadable,
                )
            found[node_id] = state
        return found

    def backlog(self, node_id: str, now_mono_ms: float) -> tuple[float, float]:
        """Return this agent's prompt tokens that wait there, and the ms since the last progress."""
        peer = self._peers.get(node_id)
        if peer is None:
            return 0.0, 0.0
        return peer.backlog.tokens, peer.backlog.progress_ms(now_mono_ms)

    def is_ejected(self, node_id: str, now_mono_ms: float, *, allow_late: bool = False) -> bool:
        """Whether ``node_id`` gets no request now; False also when its next trial is due."""
        peer = self._peers.get(node_id)
        return peer is not None and peer.is_excluded(now_mono_ms, allow_late=allow_late)

    @property
    def ejected_now(self) -> int:
        """Targets that are ejected, those on trial included."""
        return sum(peer.ejected for peer in self._peers.values())

    def fill_ratio(self, node_id: str, now_mono_ms: float) -> float:
        """Return the fill that ``node_id`` reported, ``UNKNOWN_FILL`` without a fresh report."""
        peer = self._peers.get(node_id)
        if peer is None or now_mono_ms - peer.reported_mono_ms >= REPORT_FRESH_MS:
            return UNKNOWN_FILL
        reported = peer.reported_fill_ratio
        return UNKNOWN_FILL if reported is None else reported

    def request_started(
        self,
        node_id: str,
        now_mono_ms: float,
        prompt_tokens: float = 0.0,
        account: str = "",
        sequences: int = 1,
    ) -> int:
        """Count a request that was placed there; for an ejected target it is the trial. Hot.

        Return the key of its prompt for ``first_token`` and ``request_ended``; 0 for a request
        whose first token cannot be observed (``prompt_tokens`` is 0).
        """
        peer = self._of(node_id)
        peer.count_own(account, sequences)
        if sequences == 1:
            peer.starts_mono_ms.append(now_mono_ms)
        else:
            peer.starts_mono_ms.extend([now_mono_ms] * min(sequences, MAX_STARTS))
        if peer.ejected:
            peer.next_trial_mono_ms = now_mono_ms + TRIAL_EVERY_MS
        peer.placements = peer.placements * _decay_factor(now_mono_ms - peer.placed_mono_ms) + 1.0
        peer.placed_mono_ms = now_mono_ms
        return self.prompt_sent(node_id, now_mono_ms, prompt_tokens, account)

    def prompt_sent(
        self, node_id: str, now_mono_ms: float, prompt_tokens: float, account: str
    ) -> int:
        """Add a prompt to the backlog there; return its key, 0 for one of no tokens."""
        if prompt_tokens <= 0.0:
            return 0
        return self._of(node_id).backlog.add(prompt_tokens, now_mono_ms, account)

    def first_token(self, node_id: str, prompt: int, now_mono_ms: float) -> None:
        """Record the first token for the prompt with key ``prompt``. Hot.

        It resets the count of late ones and ends an ejection at once, because a whole answer may
        take minutes. After an ejection for failures, one more failure ejects the target again
        until an answer is complete.
        """
        peer = self._of(node_id)
        peer.backlog.first_token(prompt, now_mono_ms)
        if peer.lates or peer.ejected:
            peer.lates, peer.ejected = 0, False
            peer.failures = min(peer.failures, EJECT_AFTER_FAILURES - 1)

    def demand(self, node_id: str, now_mono_ms: float) -> float:
        """Return how many requests were placed there, older ones counting less."""
        peer = self._peers.get(node_id)
        if peer is None:
            return 0.0
        return peer.placements * _decay_factor(now_mono_ms - peer.placed_mono_ms)

    def rtt_ms_p50(self, node_id: str) -> float | None:
        """Return the measured round trip, None if there is none."""
        peer = self._peers.get(node_id)
        return None if peer is None else peer.rtt_ms_p50

    def request_ended(
        self, node_id: str, prompt: int = 0, account: str = "", sequences: int = 1
    ) -> None:
        """Record the end of a request; ``prompt`` is the key of its prompt."""
        peer = self._of(node_id)
        peer.count_own(account, -sequences)
        peer.backlog.take_off(prompt)

    def is_reachable(self, node_id: str) -> bool:
        """Whether the last probe reached ``node_id``; True before the first one."""
        peer = self._peers.get(node_id)
        return peer is None or peer.reachable is not False

    def in_flight(self, node_id: str) -> int:
        """Sequences of this agent's requests that are served or wait there."""
        peer = self._peers.get(node_id)
        return 0 if peer is None else peer.own_in_flight

    def succeeded(self, node_id: str) -> None:
        """Record an answer: ends an ejection and resets the counts of failures."""
        peer = self._of(node_id)
        peer.answers += 1
        peer.cleared_on_word = 0
        _clear_failures(peer)

    def failed(self, node_id: str, now_mono_ms: float, *, of_link: bool = False) -> None:
        """Record a failed request; several in a row eject the target until one is answered.

        ``of_link``: the target was not reached, so an answered probe ends the ejection.
        """
        peer = self._of(node_id)
        peer.failures += 1
        peer.by_link = peer.by_link and of_link
        peer.disturbed = True
        if peer.failures >= EJECT_AFTER_FAILURES:
            self._eject(peer, now_mono_ms)

    def late(self, node_id: str, now_mono_ms: float, *, another_in_time: bool = True) -> None:
        """Record an attempt that was cut or overtaken before its first token. Not a failure.

        Counts only if ``another_in_time``: a late target is not ejected while no other target is in
        time.
        """
        if not another_in_time:
            return
        peer = self._of(node_id)
        peer.by_link = False
        peer.disturbed = True
        peer.lates += 1
        if peer.lates >= EJECT_AFTER_LATE:
            self._eject(peer, now_mono_ms)

    def _eject(self, peer: PeerState, now_mono_ms: float) -> None:
        self.ejections += not peer.ejected
        peer.ejected = True
        peer.next_trial_mono_ms = now_mono_ms + TRIAL_EVERY_MS

    def probed(self, node_id: str, rtt_ms: float, now_mono_ms: float) -> None:
        """Record a probe that was answered after ``rtt_ms``."""
        peer = self._of(node_id)
        if not peer.disturbed:
            peer.rtts_ms.append(rtt_ms)
            ordered = sorted(peer.rtts_ms)
            peer.rtt_ms_p50 = ordered[(len(ordered) - 1) // 2]
            peer.rtt_ms_p99 = ordered[math.ceil(0.99 * len(ordered)) - 1]
        peer.disturbed = False
        peer.reachable, peer.probed_mono_ms = True, now_mono_ms
        self.reached(node_id)

    def reached(self, node_id: str) -> None:
        """End an ejection after an answered probe, unless a request failed beyond the link."""
        peer = self._of(node_id)
        peer.unprobed_until_mono_ms = -math.inf
        if peer.by_link:
            _clear_on_word(peer)

    def probe_failed(
        self, node_id: str, now_mono_ms: float, sent_mono_ms: float = math.inf
    ) -> None:
        """Record that a probe sent at ``sent_mono_ms`` was not answered.

        Not a failure if the target has reported its load since: it is alive, and the probe waits
        behind other traffic.
        """
        peer = self._of(node_id)
        if peer.reported_mono_ms >= sent_mono_ms:
            peer.disturbed = True
            return
        peer.reachable, peer.probed_mono_ms = False, now_mono_ms
        peer.ready_models = peer.loadable = None
        self.failed(node_id, now_mono_ms, of_link=True)
        if peer.ejected:
            peer.unprobed_until_mono_ms = now_mono_ms + EJECT_MS

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
        newcomer: Newcomer | None = None,
        loadable: Mapping[str, ColdWay] | None = None,
    ) -> None:
        """Take a target's report of its load, and of its models where it names them.

        Ignores reports older than the latest. ``incarnation`` identifies the engine run there; a
        new run that is ready clears the failures of the earlier one.
        """
        peer = self._of(node_id)
        if now_mono_ms < peer.reported_mono_ms:
            return
        peer.reported_fill_ratio = fill_ratio
        peer.take_report(in_flight, queued, now_mono_ms, newcomer)
        if ready_models is not None:
            peer.ready_models, peer.loadable = frozenset(ready_models), loadable
            peer.ready_models_mono_ms = now_mono_ms
            if peer.engine_is(incarnation, ready=bool(peer.ready_models)):
                _clear_on_word(peer)

    def holds(self, node_id: str, name: str, way: ColdWay | None, *, resident: bool) -> None:
        """Record ahead of its next report whether ``name`` is in the engine there, or its way."""
        self._of(node_id).holds(name, way, resident=resident)

    def engine_changed(self, node_id: str, incarnation: str, *, ready: bool) -> None:
        """Record a state change of this node's own engine; once ready, it is used at once."""
        peer = self._of(node_id)
        if peer.engine_is(incarnation, ready=ready):
            _clear_failures(peer)

    def peer_views(self, now_mono_ms: float) -> list[PeerView]:
        """Return for each node with a fresh probe whether it was answered."""
        return [
            PeerView(node_id, peer.reachable, peer.rtt_ms_p50 or 0.0)
            for node_id, peer in self._peers.items()
            if peer.reachable is not None and now_mono_ms - peer.probed_mono_ms < REPORT_FRESH_MS
        ]

    def overclaimed(self, node_id: str) -> None:
        """Record an answer for which ``node_id`` counted more tokens than is possible."""
        self._of(node_id).overclaims += 1

    def overclaims(self) -> dict[str, int]:
        """Return such answers by node, those with the most first, at most ``MAX_COMPLAINTS``."""
        found = {node_id: one.overclaims for node_id, one in self._peers.items() if one.overclaims}
        most = sorted(found, key=lambda node_id: (-found[node_id], node_id))
        return {node_id: found[node_id] for node_id in most[:MAX_COMPLAINTS]}

    def forget_all_but(self, nodes: Mapping[str, object]) -> None:
        """Drop nodes that have left the table and serve no request of this agent."""
        gone = [
            node_id
            for node_id, peer in self._peers.items()
            if node_id not in nodes and peer.own_in_flight == 0
        ]
        for node_id in gone:
            del self._peers[node_id]

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
            "overclaims": self.overclaims(),
            "first_byte": {"ejections": self.ejections, "ejected": self.ejected_now},
        }

    def _of(self, node_id: str) -> PeerState:
        """Return the state of ``node_id`` for a change; its cached evaluation is dropped."""
        peer = self._peers.get(node_id)
        if peer is None:
            if len(self._peers) >= MAX_NODES:
                idle = (name for name, one in self._peers.items() if one.own_in_flight == 0)
                if (longest_known := next(idle, None)) is not None:
                    del self._peers[longest_known]
            peer = self._peers[node_id] = PeerState()
        peer.state = None
        return peer


def _clear_on_word(peer: PeerState) -> None:
    """Forget failures because a target says that it is well, a few times without an answer."""
    if peer.failures or peer.lates or peer.ejected:
        if peer.cleared_on_word >= MAX_CLEARED_ON_WORD:
            return
        peer.cleared_on_word += 1
    _clear_failures(peer)


def _clear_failures(peer: PeerState) -> None:
    peer.failures = peer.lates = 0
    peer.ejected, peer.by_link = False, True
    peer.unprobed_until_mono_ms = -math.inf


def _decay_factor(passed_ms: float) -> float:
    return math.exp(-max(0.0, passed_ms) / DEMAND_WINDOW_MS)
