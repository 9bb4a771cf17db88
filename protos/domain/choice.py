"""Which of the candidates serves, and which tier its customer pays for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.errors import BudgetUnreachable
from protos.domain.pricing import rate_nano_usd_per_1k_tokens
from protos.domain.resources import SlaTier, Tier

if TYPE_CHECKING:
    from protos.domain.candidates import Candidate, RequestShape
    from protos.domain.fleet_view import FleetView
    from protos.domain.ttft import Prediction

#: Edge nodes under this share of their calibrated tokens/s are preferred among those that fit.
EDGE_FILL_RATIO = 0.70
#: Share of its places that must stay free for an edge node to be preferred. Its fill lags by a
#: minute: in a burst the last places are for those with the least time.
EDGE_SPARE_RATIO = {
    SlaTier.REALTIME: 0.0,
    SlaTier.INTERACTIVE: 0.25,
    SlaTier.STANDARD: 0.5,
}
#: Equal prices whose predictions differ by no more than either of these are a near-tie.
NEAR_TIE_RATIO = 0.05
NEAR_TIE_MS = 2.0

#: Where the P95 lies between median and P99 of a normal tail: 1.645 of 2.326 deviations.
_P95_SHARE = 0.707

#: The tier that a customer of each SLA pays for when nothing fits.
DEFAULT_TIER = {
    SlaTier.REALTIME: Tier.EDGE,
    SlaTier.INTERACTIVE: Tier.REGIONAL,
    SlaTier.STANDARD: Tier.CENTRAL,
}
_EDGE = Tier.EDGE
_MIN_RETRY_AFTER_S = 1.0


@dataclass(slots=True)
class Placement:
    """Where a request goes, what it was chosen from, and which tiers serve and bill it.

    Serving tier is our choice; billing tier is the customer's.
    """

    candidates: list[Candidate]
    chosen: Candidate
    predicted_miss: bool
    serving_tier: Tier
    billing_tier: Tier


def choose(
    view: FleetView,
    request: RequestShape,
    candidates: list[Candidate],
    *,
    draw: float,
    fill: Callable[[str], float],
    edge_fill_ratio: float,
) -> Placement:
    """Choose among ``candidates``, of which there is at least one.

    Raises: BudgetUnreachable when the deployment is strict and nothing fits.
    """
    fitting = [candidate for candidate in candidates if candidate.fits]
    if not fitting:
        return _nothing_fits(view, request, candidates)
    pool = fitting
    if edge_fill_ratio > 0.0:
        sla_tier = request.deployment.sla_tier
        unfilled = [
            candidate
            for candidate in fitting
            if candidate.pop.tier is _EDGE
            and has_spare_places(candidate, sla_tier)
            and fill(candidate.node.id) < edge_fill_ratio
        ]
        pool = unfilled or fitting
    chosen = break_ties(near_ties(pool), draw)
    cheapest = min(fitting, key=_price_then_time)
    return Placement(candidates, chosen, False, chosen.pop.tier, cheapest.pop.tier)


def has_spare_places(candidate: Candidate, sla_tier: SlaTier) -> bool:
    """Whether enough places are free there for it to be preferred to what is cheaper."""
    places = candidate.replica.profile.max_parallel
    return candidate.headroom > EDGE_SPARE_RATIO[sla_tier] * places


def near_ties(pool: Sequence[Candidate]) -> list[Candidate]:
    """Return the cheapest of ``pool`` whose predictions are about as early as the earliest."""
    if len(pool) == 1:
        return list(pool)
    lowest = min(pool, key=_price_then_time)
    rate = lowest.price_nano_usd_per_1k_tokens
    earliest_ms = lowest.prediction.ttft_ms_p99
    latest_ms = earliest_ms + max(NEAR_TIE_MS, NEAR_TIE_RATIO * earliest_ms)
    return [
        candidate
        for candidate in pool
        if candidate.price_nano_usd_per_1k_tokens == rate
        and candidate.prediction.ttft_ms_p99 <= latest_ms
    ]


def break_ties(tied: Sequence[Candidate], draw: float) -> Candidate:
    """Return one of ``tied``, each as likely as its headroom is large; ``draw`` in [0, 1).

    Agents share a picture of the fleet: without chance they would all run to the same target.
    """
    total = sum(candidate.headroom for candidate in tied)
    if total == 0:
        return tied[int(draw * len(tied))]
    left = draw * total
    for candidate in tied:
        left -= candidate.headroom
        if left < 0.0:
            return candidate
    return tied[-1]


def _nothing_fits(view: FleetView, request: RequestShape, candidates: list[Candidate]) -> Placement:
    deployment = request.deployment
    if deployment.strict:
        fastest = min(candidates, key=_time)
        short_ms = fastest.prediction.ttft_ms_p99 - request.budget_left_ms
        raise BudgetUnreachable(
            f"{deployment.name!r} is strict and no target is predicted to answer in time: "
            f"{request.budget_left_ms:.0f} ms are left of the budget, the fastest takes "
            f"{fastest.prediction.ttft_ms_p99:.0f} ms",
            "raise the first-token budget, shorten the prompt, or retry",
            retry_after_s=max(_MIN_RETRY_AFTER_S, short_ms / 1_000.0),
        )
    chosen = likeliest_in_time(candidates, request.budget_left_ms)
    serving = chosen.pop.tier
    return Placement(candidates, chosen, True, serving, _lower_tier(view, request, serving))


def likeliest_in_time(candidates: Sequence[Candidate], budget_ms: float) -> Candidate:
    """Return who most likely answers within ``budget_ms``; of those alike, the lowest P99.

    A distant target of steady speed may have the lowest P99 and no chance at all, while the one
    next door is in time nine times of ten.
    """
    return max(
        candidates,
        key=lambda each: (in_time_ratio(each.prediction, budget_ms), -each.prediction.ttft_ms_p99),
    )


def in_time_ratio(prediction: Prediction, budget_ms: float) -> float:
    """Return how likely a first token comes within ``budget_ms``, between the known quantiles.

    0 up to the median: less than even chances are not worth telling apart.
    """
    p50_ms, p99_ms = prediction.ttft_ms_p50, prediction.ttft_ms_p99
    if budget_ms >= p99_ms:
        return 0.99
    if budget_ms <= p50_ms:
        return 0.0
    p95_ms = prediction.ttft_ms_p95
    if p95_ms is None:
        p95_ms = p50_ms + _P95_SHARE * (p99_ms - p50_ms)
    if budget_ms < p95_ms:
        return 0.5 + 0.45 * (budget_ms - p50_ms) / (p95_ms - p50_ms)
    return 0.95 + 0.04 * (budget_ms - p95_ms) / (p99_ms - p95_ms)


def _lower_tier(view: FleetView, request: RequestShape, serving: Tier) -> Tier:
    """Return the cheaper of ``serving`` and the deployment's default tier."""
    default = DEFAULT_TIER[request.deployment.sla_tier]
    model = view.models.get(request.deployment.model)
    if model is None:
        return serving
    default_price = view.prices.get((model.size_class, default))
    serving_price = view.prices.get((model.size_class, serving))
    if default_price is None:
        return serving
    if serving_price is None:
        return default
    cheaper = rate_nano_usd_per_1k_tokens(default_price) < rate_nano_usd_per_1k_tokens(
        serving_price
    )
    return default if cheaper else serving


def _price_then_time(candidate: Candidate) -> tuple[int, float]:
    return candidate.price_nano_usd_per_1k_tokens, candidate.prediction.ttft_ms_p99


def _time(candidate: Candidate) -> float:
    return candidate.prediction.ttft_ms_p99
