"""What this agent has learned of each target's first tokens, per (node, model).

Fed with the outcomes of streams this agent placed itself; read at every placement. Mutable, and
fed from one event loop.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from protos.domain.account_shares import AccountShares
from protos.domain.regimes import (
    LEAST_MS,
    TOKENS_UNIT,
    Evidence,
    Load,
    Place,
    Regime,
    Vote,
)
from protos.domain.ttft import MAX_QUEUE_MS, engine_p50_ms, queue_time_ms

if TYPE_CHECKING:
    from protos.domain.resources import EngineProfile

#: Targets remembered; the one not learned from for longest is forgotten first.
MAX_TARGETS = 1_024
#: The centre of those who meet a crowd forgets sooner: each crowd is different.
MEMORY_CROWD_OBSERVATIONS = 100.0
#: However well they were known in one crowd, in the next they differ by so much.
LEAST_SCALE_FULL = 0.08
#: Outcomes under which a target is predicted by its profile.
FEW_OBSERVATIONS = 16
#: The first outcomes, which tell how far the profile is off.
CALIBRATION_OUTCOMES = 10
#: Outcomes that are looked at together for a change of speed.
CHANGE_OUTCOMES = 10
#: Their median rank beyond this, or as near to 0: no burst looks like it, a change of speed does.
_CHANGED_RANK = 0.93
#: A change smaller than this is left to the regression.
_CHANGED_LOG_RATIO = 0.12
#: Largest usual distance of the votes from their ratio, as a share of the ratio's distance from 1.
#: The outcomes of heavy-tailed prompts scatter; a change of speed moves all of them alike.
_MOST_SCATTER = 0.6
#: Votes of one regime from which a change is taken from that regime alone.
_OWN_VOTES = 3
_PLACES = tuple(Place)
#: Outcomes elsewhere after which a regime counts as not visited.
UNVISITED_OUTCOMES = 16
#: What a change leaves of the evidence.
_KEPT_AFTER_CHANGE = 0.1
#: Residuals that a regime needs before its ranks mean anything.
_RANKS_NEED = 50
#: Each request in flight slows an idle engine by this share, until that was observed.
_BATCH_SHARE = 0.02


@dataclass(frozen=True, slots=True)
class Outcome:
    """How long one stream's first token took at its target.

    ``network_ms`` is what the way there was known to take. ``censored``: no token came in
    ``took_ms``, since the client left or another target was first. ``abandoned``: the client left,
    which is little evidence about the target. ``account``: whose stream it was.
    """

    load: Load
    network_ms: float
    took_ms: float
    at_mono_ms: float
    censored: bool = False
    account: str = ""
    abandoned: bool = False

    @property
    def engine_ms(self) -> float:
        """What of it the target took, what had passed of it before included; at most an hour."""
        engine_ms = self.took_ms - self.network_ms + self.load.head_start_ms
        return min(MAX_QUEUE_MS, max(LEAST_MS, engine_ms))


class TargetModel:
    """One (node, model)."""

    __slots__ = (
        "_alone_from_mono_ms",
        "_elsewhere",
        "_first",
        "_paces",
        "_profile",
        "_shares",
        "_votes",
        "changes",
        "evidence",
        "learned_mono_ms",
        "observations",
        "regimes",
    )

    def __init__(self, profile: EngineProfile) -> None:
        self._profile = profile
        self._first: list[Outcome] | None = []
        self._shares = AccountShares()
        self._begin(1.0)
        self.observations = 0
        self.changes = 0
        #: When the last outcome came.
        self.learned_mono_ms = -math.inf

    def _begin(self, slowness: float) -> None:
        """Start from the profile, with every time multiplied by ``slowness``."""
        profile = self._profile
        engine_ms = max(LEAST_MS, engine_p50_ms(profile) * slowness)
        token_ms = profile.prefill_ms_per_token * TOKENS_UNIT * slowness
        batch_ms = engine_ms * _BATCH_SHARE
        place_ms = queue_time_ms(profile, 1) * slowness
        self.regimes = (
            Regime((engine_ms, token_ms, batch_ms, 0.0, 0.0)),
            Regime(
                (engine_ms, token_ms, batch_ms, token_ms, 0.0),
                MEMORY_CROWD_OBSERVATIONS,
                place=Place.BEHIND,
            ),
            Regime(
                (engine_ms, token_ms, batch_ms, token_ms, place_ms),
                MEMORY_CROWD_OBSERVATIONS,
                LEAST_SCALE_FULL,
                place=Place.FULL,
            ),
        )
        self._votes: deque[Vote] = deque(maxlen=CHANGE_OUTCOMES)
        free, behind, full = self.regimes
        paces = (free.pace_ms, behind.pace_ms, full.pace_ms)
        #: By regime: the paces of all at its last outcome, and outcomes elsewhere since then.
        self._paces = [paces, paces, paces]
        self._elsewhere = [0, 0, 0]
        self._alone_from_mono_ms = -math.inf
        self._gather()

    def _gather(self) -> None:
        """Make ready what predictions read: they are many times as many as outcomes."""
        free, behind, full = (regime.quantiles for regime in self.regimes)
        #: By place.
        self.evidence: tuple[Evidence, Evidence, Evidence] = (
            free,
            free + behind,
            free + behind + full,
        )

    @property
    def known(self) -> bool:
        """Whether there are enough outcomes to predict from."""
        return self.observations >= FEW_OBSERVATIONS

    def learn(self, outcome: Outcome) -> None:
        """Take in one outcome. Costs about 30 us.

        The first ones are kept together, and tell by what factor the profile is wrong: learned
        one by one they would leave errors behind that have nothing to do with the target.
        """
        if not math.isfinite(outcome.took_ms - outcome.network_ms + sum(outcome.load)):
            return
        features = outcome.load.features()
        promised_ms = self.regimes[outcome.load.place].promised_ms(features)
        if outcome.censored and outcome.engine_ms <= promised_ms:
            return  # Known only to be longer: this says nothing new.
        if not self._shares.admit(
            outcome.account, censored=outcome.censored, abandoned=outcome.abandoned
        ):
            return
        self.observations += 1
        self.learned_mono_ms = outcome.at_mono_ms
        if self._first is None:
            self._learn(outcome, features)
            self._gather()
            return
        self._first.append(outcome)
        if len(self._first) == CALIBRATION_OUTCOMES:
            first, self._first = self._first, None
            self._begin(median(self._ratio(each) for each in first))
            for each in first:
                self._learn(each, each.load.features())
            self._gather()

    def _ratio(self, outcome: Outcome) -> float:
        load = outcome.load
        return outcome.engine_ms / self.regimes[load.place].centre_ms(load.features())

    def _learn(self, outcome: Outcome, features: tuple[float, ...]) -> None:
        place = outcome.load.place
        at_ms, sent_ms = outcome.at_mono_ms, outcome.at_mono_ms - outcome.took_ms
        # Outcomes that overlap in time are not independent: only one of them counts.
        alone = sent_ms >= self._alone_from_mono_ms
        if alone:
            self._alone_from_mono_ms = at_ms
        regime = self.regimes[place]
        ranked = len(regime.residuals) >= _RANKS_NEED
        if outcome.censored:
            vote = regime.learn_miss(features, outcome.engine_ms, sent_ms, at_ms)
        else:
            remember = alone or place is not Place.FULL
            vote = regime.learn(features, outcome.engine_ms, sent_ms, at_ms, remember=remember)
            for heavier in self.regimes[place + 1 :]:
                heavier.expect(regime.p50)
            self._visited(place, at_ms)
        if ranked and alone and place is not Place.FULL and not outcome.abandoned:
            self._votes.append(vote)
            self._look_for_change()

    def _look_for_change(self) -> None:
        votes = self._votes
        if len(votes) < CHANGE_OUTCOMES:
            return
        rank = median(vote.rank for vote in votes)
        if 1.0 - _CHANGED_RANK < rank < _CHANGED_RANK:
            return
        factor = median(vote.ratio for vote in votes)
        size = abs(math.log(factor))
        if size < _CHANGED_LOG_RATIO:
            return
        changed = _since_change(list(votes), factor)
        factor = median(vote.ratio for vote in changed)
        if _scatter(changed, factor) > _MOST_SCATTER * size:
            return
        now_ms, since_ms = votes[-1].at_mono_ms, changed[0].sent_mono_ms
        leader = Place.FREE
        for place in (Place.BEHIND, Place.FREE):
            if sum(vote.place is place for vote in changed) >= min(_OWN_VOTES, len(changed)):
                self.regimes[place].rescale(factor, _KEPT_AFTER_CHANGE, since_ms)
                leader = place
        for place in _PLACES:
            if sum(vote.place is place for vote in changed) < min(_OWN_VOTES, len(changed)):
                self._follow(place, leader, now_ms)
        votes.clear()
        self.changes += 1

    def _visited(self, place: Place, at_mono_ms: float) -> None:
        """An outcome came in ``place``: regimes that have had none for long follow it."""
        elsewhere = self._elsewhere
        elsewhere[place] = 0
        free, behind, full = self.regimes
        self._paces[place] = (free.pace_ms, behind.pace_ms, full.pace_ms)
        if place is Place.FULL:
            return
        for other in _PLACES:
            if other is not place:
                elsewhere[other] += 1
                if elsewhere[other] >= UNVISITED_OUTCOMES:
                    self._follow(other, place, at_mono_ms)

    def _follow(self, place: Place, leader: Place, at_mono_ms: float) -> None:
        """Scale the estimate of ``place`` by what that of ``leader`` has changed since."""
        if self.regimes[place].residuals.seen:
            factor = self.regimes[leader].pace_ms / self._paces[place][leader]
            self.regimes[place].move(factor, at_mono_ms)


def _scatter(votes: list[Vote], factor: float) -> float:
    """Return how far, in logarithms, the votes usually lie from ``factor``."""
    return median(abs(math.log(vote.ratio / factor)) for vote in votes)


def _since_change(votes: list[Vote], factor: float) -> list[Vote]:
    """Return the newest votes: those from where most are nearer to ``factor`` than to 1."""
    middle, since, score, best = math.sqrt(factor), len(votes) - 1, 0, 0
    for index in range(len(votes) - 1, -1, -1):
        score += 1 if (votes[index].ratio > middle) == (factor > 1.0) else -1
        if score > best:
            since, best = index, score
    return votes[since:]


class Predictor:
    """All targets that this agent has learned from; bounded by ``MAX_TARGETS``."""

    def __init__(self, max_targets: int = MAX_TARGETS) -> None:
        self._max_targets = max_targets
        self._by_model: dict[str, dict[str, TargetModel]] = {}
        self._order: dict[tuple[str, str], None] = {}

    def __len__(self) -> int:
        return len(self._order)

    def of_model(self, model: str) -> Mapping[str, TargetModel]:
        """Return what was learned of the nodes that serve ``model``. Hot."""
        return self._by_model.get(model, NOTHING_LEARNED)

    def learn(self, node_id: str, model: str, profile: EngineProfile, outcome: Outcome) -> None:
        """Take in one outcome of ``model`` on ``node_id``, whose profile is ``profile``."""
        key = (model, node_id)
        nodes = self._by_model.setdefault(model, {})
        target = nodes.get(node_id)
        if target is None:
            if len(self._order) >= self._max_targets:
                self._forget(next(iter(self._order)))
            nodes = self._by_model.setdefault(model, {})
            target = nodes[node_id] = TargetModel(profile)
        self._order.pop(key, None)
        self._order[key] = None
        target.learn(outcome)

    def _forget(self, key: tuple[str, str]) -> None:
        model, node_id = key
        del self._order[key]
        nodes = self._by_model[model]
        del nodes[node_id]
        if not nodes:
            del self._by_model[model]


#: What is known of a model's targets before any outcome.
NOTHING_LEARNED: Mapping[str, TargetModel] = {}
