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

from protos.domain.regimes import (
    LEAST_MS,
    TOKENS_UNIT,
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
    ``took_ms``, since the client left or another target was first.
    """

    load: Load
    network_ms: float
    took_ms: float
    at_mono_ms: float
    censored: bool = False

    @property
    def engine_ms(self) -> float:
        """What of it the target took, what had passed of it before included; at most an hour."""
        engine_ms = self.took_ms - self.network_ms + self.load.head_start_ms
        return min(MAX_QUEUE_MS, max(LEAST_MS, engine_ms))


class TargetModel:
    """One (node, model)."""

    __slots__ = (
        "_alone_from_mono_ms",
        "_first",
        "_profile",
        "_votes",
        "changes",
        "learned_mono_ms",
        "observations",
        "regimes",
    )

    def __init__(self, profile: EngineProfile) -> None:
        self._profile = profile
        self._first: list[Outcome] | None = []
        self._begin(1.0)
        self.observations = 0
        self.changes = 0
        #: When the last outcome came.
        self.learned_mono_ms = -math.inf

    def _begin(self, slowness: float) -> None:
        """Know nothing but that the target takes ``slowness`` times as long as its profile says."""
        profile = self._profile
        engine_ms = max(LEAST_MS, engine_p50_ms(profile) * slowness)
        token_ms = profile.prefill_ms_per_token * TOKENS_UNIT * slowness
        batch_ms = engine_ms * _BATCH_SHARE
        place_ms = queue_time_ms(profile, 1) * slowness
        self.regimes = (
            Regime((engine_ms, token_ms, batch_ms, 0.0, 0.0)),
            Regime((engine_ms, token_ms, batch_ms, token_ms, 0.0), MEMORY_CROWD_OBSERVATIONS),
            Regime(
                (engine_ms, token_ms, batch_ms, token_ms, place_ms),
                MEMORY_CROWD_OBSERVATIONS,
                LEAST_SCALE_FULL,
            ),
        )
        self._votes: deque[Vote] = deque(maxlen=CHANGE_OUTCOMES)
        self._alone_from_mono_ms = -math.inf

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
        self.observations += 1
        self.learned_mono_ms = outcome.at_mono_ms
        if self._first is None:
            self._learn(outcome, features)
            return
        self._first.append(outcome)
        if len(self._first) == CALIBRATION_OUTCOMES:
            first, self._first = self._first, None
            self._begin(median(self._ratio(each) for each in first))
            for each in first:
                self._learn(each, each.load.features())

    def _ratio(self, outcome: Outcome) -> float:
        load = outcome.load
        return outcome.engine_ms / self.regimes[load.place].centre_ms(load.features())

    def _learn(self, outcome: Outcome, features: tuple[float, ...]) -> None:
        place = outcome.load.place
        at_ms, sent_ms = outcome.at_mono_ms, outcome.at_mono_ms - outcome.took_ms
        # Outcomes that overlap say the same thing: only one of them is a witness.
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
        if ranked and alone and place is not Place.FULL:
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
        if abs(math.log(factor)) < _CHANGED_LOG_RATIO:
            return
        changed = _since_change(list(votes), factor)
        factor = median(vote.ratio for vote in changed)
        for regime in self.regimes:
            regime.rescale(factor, _KEPT_AFTER_CHANGE, changed[0].sent_mono_ms)
        votes.clear()
        self.changes += 1


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
