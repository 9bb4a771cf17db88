"""Sends a small share of streams to targets whose speed is uncertain, to learn it. Pure.

Placement learns only from targets that it chooses. Without exploration, a target that was slow for
a while would be predicted slow for ever, and a target with a pessimistic profile would never be
chosen. A stream is sent to such a target only if its profile predicts it in time and the chosen
target would still be in time afterwards, so the customer does not pay for the exploration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from agent.core.request_share import RequestShare
from agent.core.samples import Sample, Samples
from protos.domain.ttft import predict

if TYPE_CHECKING:
    from protos.domain.predictor import TargetModel
    from protos.domain.router import Candidate, Placement, RequestShape

#: Share of streams that may explore.
EXPLORE_RATIO = 0.01
#: Limit of saved explorations: enough to learn the speed of one target.
MAX_SAVED_EXPLORATIONS = 20.0
#: The first-token time of a profile is multiplied by this, for safety.
PROFILE_MARGIN = 1.25
#: Learned outcomes of a target are uncertain after this time without a new one.
STALE_MS = 30_000.0
#: A search that found no target is not repeated for this time, because it costs a prediction for
#: each candidate.
SEARCH_EVERY_MS = 250.0


class Exploration:
    """Chooses a target to explore in place of the best one, for at most ``ratio`` of streams."""

    def __init__(self, ratio: float) -> None:
        self.budget = RequestShare(ratio, MAX_SAVED_EXPLORATIONS)
        self._search_mono_ms = -math.inf

    def may_explore(self, now_mono_ms: float) -> bool:
        """Whether an exploration is left and a search is due. Hot."""
        return self.budget.left and now_mono_ms >= self._search_mono_ms

    def choose_instead(
        self,
        placement: Placement,
        request: RequestShape,
        learned: Mapping[str, TargetModel],
        now_mono_ms: float,
    ) -> Candidate | None:
        """Return the target to ask instead of the chosen one, or None.

        Never one that costs more or has no free place, nor one after which the chosen target could
        not be asked in time; never for a strict deployment or for a request that is not a stream.
        """
        if not self.may_explore(now_mono_ms):
            return None
        if placement.predicted_miss or request.deployment.strict or not request.stream:
            return None
        chosen = placement.chosen
        spare_ms = request.budget_left_ms - chosen.ttft_ms_p99
        most = chosen.price_nano_usd_per_1k_tokens
        doubtful = [
            candidate
            for candidate in placement.candidates
            if candidate is not chosen
            and candidate.price_nano_usd_per_1k_tokens <= most
            and is_doubtful(candidate, learned, now_mono_ms)
            and is_free(candidate)
            and profile_ms(candidate) <= spare_ms
        ]
        if not doubtful:
            self._search_mono_ms = now_mono_ms + SEARCH_EVERY_MS
            return None
        self.budget.take()
        return min(doubtful, key=lambda candidate: _order(candidate, learned))

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield how many explorations were sent."""
        yield Sample(
            "edgeforge_gateway_explorations_sent",
            "Streams sent to a target to learn its speed.",
            float(self.budget.sent),
            counter=True,
        )

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return how many explorations were sent, and their share."""
        budget = self.budget
        return {"first_byte": {"explorations_sent": budget.sent, "explore_share": budget.share}}


def explored_patience_ms(budget_left_ms: float, fall_back_ms: float) -> float:
    """Return how long an explored target may take, so that the other is still in time afterwards.

    ``fall_back_ms`` is the P99 of the target that would have been asked.
    """
    return max(0.0, budget_left_ms - fall_back_ms)


def is_doubtful(
    candidate: Candidate, learned: Mapping[str, TargetModel], now_mono_ms: float
) -> bool:
    """Whether the prediction of a target is from its profile, or from old outcomes."""
    if not candidate.learned:
        return True
    target = learned.get(candidate.node.id)
    return target is None or now_mono_ms - target.learned_mono_ms >= STALE_MS


def is_free(candidate: Candidate) -> bool:
    """Whether a place is free there, no request waits for one, and nothing must be loaded first."""
    return candidate.cold is None and candidate.headroom > 0 and candidate.load.waiting <= 0.0


def profile_ms(candidate: Candidate) -> float:
    """Return the first-token time by the profile alone, multiplied by ``PROFILE_MARGIN``."""
    load, network = candidate.load, candidate.network
    prediction = predict(
        candidate.offer.profile,
        network,
        rtt_ms_p99=network.rtt_ms,
        in_flight=0,
        queued=0,
        prompt_tokens=load.prompt_tokens + load.backlog_tokens,
    )
    return PROFILE_MARGIN * prediction.ttft_ms_p99


def _order(
    candidate: Candidate, learned: Mapping[str, TargetModel]
) -> tuple[bool, int, float, str]:
    """Sort targets with too few outcomes first, most outcomes first; then by the oldest outcome."""
    target = learned.get(candidate.node.id)
    if target is None:
        return False, 0, 0.0, candidate.node.id
    if not target.known:
        return False, -target.observations, 0.0, candidate.node.id
    return True, 0, target.learned_mono_ms, candidate.node.id
