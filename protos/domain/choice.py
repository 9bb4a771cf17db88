"""Chooses the serving candidate and the billing tier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.errors import BudgetUnreachable
from protos.domain.pricing import rate_nano_usd_per_1k_tokens
from protos.domain.resources import SlaTier, Tier
from protos.domain.trust import reference, tickets, within_allowance
from protos.domain.usage_record import BillingReason

if TYPE_CHECKING:
    from protos.domain.candidates import Candidate
    from protos.domain.fleet_view import FleetView
    from protos.domain.targets import RequestShape

#: Edge nodes under this share of their calibrated tokens/s are preferred among those that fit.
EDGE_FILL_RATIO = 0.70
#: Share of its places that must stay free for an edge node to be preferred. Its fill lags by a
#: minute, and in a burst the last places are kept for the requests with the least time.
EDGE_SPARE_RATIO = {
    SlaTier.REALTIME: 0.0,
    SlaTier.INTERACTIVE: 0.25,
    SlaTier.STANDARD: 0.5,
}
#: Share of a target's places beyond its first that each SLA tier leaves to tiers with less time, as
#: long as another target that fits has more of them free.
KEPT_RATIO = {
    SlaTier.REALTIME: 0.0,
    SlaTier.INTERACTIVE: 0.1,
    SlaTier.STANDARD: 0.2,
}
#: Equal prices whose predictions differ by no more than either of these are a near-tie.
NEAR_TIE_RATIO = 0.05
NEAR_TIE_MS = 2.0

#: The tier that a customer of each SLA pays for when nothing fits.
DEFAULT_TIER = {
    SlaTier.REALTIME: Tier.EDGE,
    SlaTier.INTERACTIVE: Tier.REGIONAL,
    SlaTier.STANDARD: Tier.CENTRAL,
}
_MIN_RETRY_AFTER_S = 1.0


@dataclass(slots=True)
class Placement:
    """The chosen target, the candidates it was chosen from, and the serving and billing tiers.

    The serving tier is the router's choice; billing depends on the deployment.
    """

    candidates: list[Candidate]
    chosen: Candidate
    predicted_miss: bool
    serving_tier: Tier
    billing_tier: Tier
    #: Whether the billing tier is of a moment in which no target was predicted in time.
    billed_as_miss: bool = False

    @property
    def billing_reason(self) -> BillingReason:
        """Why the customer pays the billing tier."""
        if self.billed_as_miss:
            return BillingReason.PREDICTED_MISS
        if self.billing_tier is self.serving_tier:
            return BillingReason.CHEAPEST
        return BillingReason.CHEAPER_FITTED


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
    sla_tier = request.deployment.sla_tier
    open_pool = pool = with_open_places(within_allowance(fitting), sla_tier)
    if edge_fill_ratio > 0.0:
        spare_ratio = EDGE_SPARE_RATIO[sla_tier]
        pool = [
            candidate
            for candidate in open_pool
            if (offer := candidate.offer).is_edge
            and candidate.cold is None
            and candidate.headroom > spare_ratio * offer.max_parallel
            and fill(offer.node_id) < edge_fill_ratio
        ] or open_pool
    lowest = cheapest(fitting)
    tied = near_ties(pool, lowest if pool is fitting else None)
    chosen = tied[0] if len(tied) == 1 else break_ties(tied, draw)
    return Placement(candidates, chosen, False, chosen.offer.pop.tier, lowest.offer.pop.tier)


def has_open_places(candidate: Candidate, sla_tier: SlaTier) -> bool:
    """Whether a place is free there that is not kept for tiers with less time."""
    return candidate.headroom - 1 >= KEPT_RATIO[sla_tier] * (candidate.offer.max_parallel - 1)


def with_open_places(fitting: list[Candidate], sla_tier: SlaTier) -> list[Candidate]:
    """Return those of ``fitting`` with a place open to ``sla_tier``; all of them if none has. Hot.

    Kept places are a preference only: no request is refused for them.
    """
    kept_ratio = KEPT_RATIO[sla_tier]
    # ``has_open_places`` inlined: its calls cost 5 % of a decision among 20
    found = [
        candidate
        for candidate in fitting
        if candidate.headroom - 1 >= kept_ratio * (candidate.offer.max_parallel - 1)
    ]
    return found if found and len(found) < len(fitting) else fitting


def has_spare_places(candidate: Candidate, sla_tier: SlaTier) -> bool:
    """Whether enough places are free there for it to be preferred to a cheaper target."""
    return candidate.headroom > EDGE_SPARE_RATIO[sla_tier] * candidate.offer.max_parallel


def cheapest(pool: Sequence[Candidate]) -> Candidate:
    """Return the cheapest of ``pool``; among equals the one with the lowest P99. Hot."""
    best = pool[0]
    lowest, soonest_ms = best.offer.rate_nano_usd_per_1k_tokens, best.ttft_ms_p99
    for candidate in pool:
        rate = candidate.offer.rate_nano_usd_per_1k_tokens
        if rate == lowest:
            if candidate.ttft_ms_p99 < soonest_ms:
                best, soonest_ms = candidate, candidate.ttft_ms_p99
        elif rate < lowest:
            best, lowest, soonest_ms = candidate, rate, candidate.ttft_ms_p99
    return best


def near_ties(pool: Sequence[Candidate], best: Candidate | None = None) -> list[Candidate]:
    """Return the cheapest of ``pool`` whose predictions are close to the lowest of them.

    ``best`` is the result of ``cheapest``, if it is known already. No target is sooner than a
    proven one on its word alone. None is loaded anew where one of equal time has it already.
    """
    best = reference(pool, best or cheapest(pool))
    rate, earliest_ms = best.offer.rate_nano_usd_per_1k_tokens, best.ttft_ms_p99
    latest_ms = earliest_ms + max(NEAR_TIE_MS, NEAR_TIE_RATIO * earliest_ms)
    tied = [
        candidate
        for candidate in pool
        if candidate.ttft_ms_p99 <= latest_ms
        and candidate.offer.rate_nano_usd_per_1k_tokens == rate
    ]
    if len(tied) == 1:
        return tied
    return [candidate for candidate in tied if candidate.cold is None] or tied


def break_ties(tied: Sequence[Candidate], draw: float) -> Candidate:
    """Return one of ``tied`` with a probability proportional to its tickets; ``draw`` in [0, 1).

    Agents have the same view of the fleet: without randomness all would choose the same target.
    """
    weights = tickets(tied)
    total = sum(weights)
    if total == 0:
        return tied[int(draw * len(tied))]
    left = draw * total
    for candidate, weight in zip(tied, weights, strict=True):
        left -= weight
        if left < 0.0:
            return candidate
    return tied[-1]


def _nothing_fits(view: FleetView, request: RequestShape, candidates: list[Candidate]) -> Placement:
    deployment = request.deployment
    if deployment.strict:
        fastest = min(candidates, key=_time)
        raise BudgetUnreachable(
            f"{deployment.name!r} is strict and no target is predicted to answer in time: "
            f"{request.budget_left_ms:.0f} ms are left of the budget, the fastest takes "
            f"{fastest.ttft_ms_p99:.0f} ms",
            "raise the first-token budget, shorten the prompt, or retry",
            retry_after_s=_retry_after_s(candidates, request.budget_left_ms),
        )
    chosen = likeliest_in_time(candidates, request.budget_left_ms)
    return missed_placement(view, request, candidates, chosen)


def missed_placement(
    view: FleetView, request: RequestShape, candidates: list[Candidate], chosen: Candidate
) -> Placement:
    """Return the placement on ``chosen`` as a predicted miss."""
    serving = chosen.pop.tier
    billing = _lower_tier(view, request, serving)
    return Placement(candidates, chosen, True, serving, billing, billed_as_miss=True)


def explored_placement(placement: Placement, other: Candidate) -> Placement:
    """Return ``placement`` with ``other``, which is not dearer, in place of the chosen one.

    Billed at the cheaper of the original tier and that of ``other``.
    """
    billed = min(
        candidate.price_nano_usd_per_1k_tokens
        for candidate in placement.candidates
        if candidate.fits
    )
    cheaper = other.price_nano_usd_per_1k_tokens < billed
    serving = other.pop.tier
    billing = serving if cheaper else placement.billing_tier
    return Placement(placement.candidates, other, False, serving, billing)


def _retry_after_s(candidates: Sequence[Candidate], budget_ms: float) -> float:
    """Return the seconds until the first queue is predicted to be short enough.

    A queue shortens by the time that passes. Where no queue is the cause, the result is the time by
    which the fastest target is over the budget.
    """
    over_ms = [candidate.ttft_ms_p99 - budget_ms for candidate in candidates]
    by_waiting = [
        each_ms
        for candidate, each_ms in zip(candidates, over_ms, strict=True)
        if each_ms <= candidate.prediction.waiting_ms
    ]
    return max(_MIN_RETRY_AFTER_S, min(by_waiting or over_ms) / 1_000.0)


def likeliest_in_time(candidates: Sequence[Candidate], budget_ms: float) -> Candidate:
    """Return the candidate most likely within ``budget_ms``; among equals the lowest P99.

    A distant target of steady speed may have the lowest P99 and be late every time, while a near
    one is in time nine times of ten.
    """
    best, most, soonest_ms = candidates[0], -1.0, 0.0
    for candidate in candidates:
        p99_ms = candidate.ttft_ms_p99
        likely = in_time_ratio(*candidate.lower_quantiles_ms, p99_ms, budget_ms)
        if likely > most or (likely == most and p99_ms < soonest_ms):
            best, most, soonest_ms = candidate, likely, p99_ms
    return best


def in_time_ratio(p50_ms: float, p95_ms: float, p99_ms: float, budget_ms: float) -> float:
    """Return the probability of a first token within ``budget_ms``, between known quantiles.

    0 below the median: probabilities under one half are not distinguished.
    """
    if budget_ms >= p99_ms:
        return 0.99
    if budget_ms <= p50_ms:
        return 0.0
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


def _time(candidate: Candidate) -> float:
    return candidate.ttft_ms_p99
