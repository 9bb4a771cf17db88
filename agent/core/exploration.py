"""Requests that find out what a target is like now: few, and never at a customer's cost. Pure.

Placement learns only from where it places. A target that was slow for a while is predicted slow,
gets nothing, and would be predicted slow for ever; one that its profile makes look second best is
never found out to be the best. So a small share of streams goes to such a target, where the profile
says that it is in time and, should that be wrong, somebody else still is.
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
#: Unused explorations kept: enough to get to know one target.
MAX_SAVED_EXPLORATIONS = 20.0
#: A profile's first token may be so many times later than it says.
PROFILE_MARGIN = 1.25
#: What was learned of a target is doubted after so long without an outcome.
STALE_MS = 30_000.0
#: A look that found nothing to explore is not repeated for so long: it costs a prediction for each
#: candidate.
LOOK_EVERY_MS = 250.0


class Exploration:
    """Who is asked in place of the chosen one, within ``ratio`` of all streams."""

    def __init__(self, ratio: float) -> None:
        self.budget = RequestShare(ratio, MAX_SAVED_EXPLORATIONS)
        self._look_mono_ms = -math.inf

    def may(self, now_mono_ms: float) -> bool:
        """Whether one is left, and it is time to look for whom. Hot."""
        return self.budget.left and now_mono_ms >= self._look_mono_ms

    def instead_of(
        self,
        placement: Placement,
        request: RequestShape,
        learned: Mapping[str, TargetModel],
        now_mono_ms: float,
    ) -> Candidate | None:
        """Return whom to ask rather than the chosen one; None mostly.

        Never anybody dearer, nor without a free place, nor where the chosen one could not be asked
        in time afterwards; and never for a strict deployment, nor for what is no stream.
        """
        if not self.may(now_mono_ms):
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
            self._look_mono_ms = now_mono_ms + LOOK_EVERY_MS
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
    """Return how long an explored target may take: until the other could just be asked in time.

    ``fall_back_ms`` is the P99 of the one that was not asked.
    """
    return max(0.0, budget_left_ms - fall_back_ms)


def is_doubtful(
    candidate: Candidate, learned: Mapping[str, TargetModel], now_mono_ms: float
) -> bool:
    """Whether a target is predicted by its profile, or from what was seen long ago."""
    if not candidate.learned:
        return True
    target = learned.get(candidate.node.id)
    return target is None or now_mono_ms - target.learned_mono_ms >= STALE_MS


def is_free(candidate: Candidate) -> bool:
    """Whether a place is free there and nobody waits for one."""
    return candidate.headroom > 0 and candidate.load.waiting <= 0.0


def profile_ms(candidate: Candidate) -> float:
    """Return what the profile alone says of a first token there, with a margin."""
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
    """Those being got to know first, the best known of them before; then the longest unheard."""
    target = learned.get(candidate.node.id)
    if target is None:
        return False, 0, 0.0, candidate.node.id
    if not target.known:
        return False, -target.observations, 0.0, candidate.node.id
    return True, 0, target.learned_mono_ms, candidate.node.id
