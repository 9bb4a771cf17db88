"""Explains a placement: for every replica of the model, why it won or lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.candidates import NO_COLD_STARTS, Candidate, gather
from protos.domain.choice import (
    EDGE_FILL_RATIO,
    Placement,
    choose,
    has_open_places,
    has_spare_places,
    near_ties,
    with_open_places,
)
from protos.domain.errors import BudgetUnreachable, InvalidRequest, NoReplica
from protos.domain.offers import UNPRICED_NANO_USD_PER_1K_TOKENS, Filter, Rejected
from protos.domain.predictor import NOTHING_LEARNED, TargetModel
from protos.domain.refusals import check_context, no_replica
from protos.domain.resources import Tier
from protos.domain.trust import is_proven, is_within_allowance, within_allowance

if TYPE_CHECKING:
    from protos.domain.fleet_view import FleetView
    from protos.domain.load_term import LoadTerms
    from protos.domain.targets import RequestShape, TargetLookup
    from protos.domain.ttft import Prediction


@dataclass(frozen=True, slots=True)
class CandidateExplanation:
    """Why one replica won or lost; ``prediction`` is None when a hard filter removed it.

    ``price_nano_usd_per_1k_tokens`` is 0 when the card has none, or a filter removed the replica.
    """

    node_id: str
    pop_id: str
    tier: Tier | None
    zone: str
    prediction: Prediction | None
    price_nano_usd_per_1k_tokens: int
    fits: bool
    chosen: bool
    verdict: str


@dataclass(frozen=True, slots=True)
class RouteExplanation:
    """The explanation of every replica of a deployment's model, from one agent's state."""

    deployment: str
    via_node: str
    budget_ms: float
    candidates: tuple[CandidateExplanation, ...]
    predicted_miss: bool
    serving_tier: Tier | None
    billing_tier: Tier | None
    summary: str


def explain(
    view: FleetView,
    request: RequestShape,
    self_node_id: str,
    live: TargetLookup,
    *,
    draw: float,
    fill: Callable[[str], float],
    edge_fill_ratio: float = EDGE_FILL_RATIO,
    excluded: frozenset[str] = frozenset(),
    learned: Mapping[str, TargetModel] = NOTHING_LEARNED,
    loads: LoadTerms = NO_COLD_STARTS,
) -> RouteExplanation:
    """Return what ``router.place`` would do with the same arguments, and why. Not hot.

    A refusal is described in ``summary``, not raised. Candidates come first, by price then time.
    """
    rejected: list[Rejected] = []
    candidates = gather(view, request, self_node_id, live, excluded, rejected, learned, loads)
    placement: Placement | None = None
    try:
        check_context(view, request)
        if not candidates:
            raise no_replica(request, rejected)
        placement = choose(
            view, request, candidates, draw=draw, fill=fill, edge_fill_ratio=edge_fill_ratio
        )
        summary = _summary(placement)
    except (NoReplica, BudgetUnreachable, InvalidRequest) as error:
        summary = f"refused: {error}"
    words = _Words(placement, request, fill, edge_fill_ratio)
    candidates.sort(key=_price_then_time)
    return RouteExplanation(
        deployment=request.deployment.name,
        via_node=self_node_id,
        budget_ms=request.budget_left_ms,
        candidates=(
            *(words.explain(candidate) for candidate in candidates),
            *(_explain_rejected(line) for line in rejected),
        ),
        predicted_miss=placement is not None and placement.predicted_miss,
        serving_tier=placement.serving_tier if placement else None,
        billing_tier=placement.billing_tier if placement else None,
        summary=summary,
    )


class _Words:
    """Words the reasons of one placement."""

    def __init__(
        self,
        placement: Placement | None,
        request: RequestShape,
        fill: Callable[[str], float],
        edge_fill_ratio: float,
    ) -> None:
        self._placement = placement
        self._budget_ms = request.budget_left_ms
        self._sla_tier = request.deployment.sla_tier
        self._fill = fill
        self._edge_fill_ratio = edge_fill_ratio

    def explain(self, candidate: Candidate) -> CandidateExplanation:
        rate = candidate.price_nano_usd_per_1k_tokens
        chosen = self._placement is not None and candidate is self._placement.chosen
        return CandidateExplanation(
            node_id=candidate.node.id,
            pop_id=candidate.pop.id,
            tier=candidate.pop.tier,
            zone=candidate.pop.zone,
            prediction=candidate.prediction,
            price_nano_usd_per_1k_tokens=0 if rate == UNPRICED_NANO_USD_PER_1K_TOKENS else rate,
            fits=candidate.fits,
            chosen=chosen,
            verdict=self._verdict(candidate) + _load_words(candidate),
        )

    def _verdict(self, candidate: Candidate) -> str:
        if self._placement is None:
            return "fits, but the request is refused" if candidate.fits else self._late(candidate)
        if candidate is self._placement.chosen:
            return self._won(self._placement)
        if not candidate.fits:
            return self._late(candidate)
        return self._lost(candidate, self._placement.chosen)

    def _won(self, placement: Placement) -> str:
        chosen = placement.chosen
        if placement.predicted_miss:
            return f"{self._late(chosen)}; nothing fits and this is the likeliest in time"
        if self._is_unfilled_edge(chosen):
            return (
                f"fits; edge filled to {self._fill(chosen.node.id):.0%}, "
                f"preferred under {self._edge_fill_ratio:.0%}"
            )
        fitting = [each for each in placement.candidates if each.fits]
        alike = near_ties(with_open_places(within_allowance(fitting), self._sla_tier))
        last = "" if has_open_places(chosen, self._sla_tier) else ", and no open place anywhere"
        if len(alike) > 1:
            return f"fits; cheapest, drawn by headroom among {len(alike)} alike{last}"
        return f"fits; cheapest that fits{last}"

    def _lost(self, candidate: Candidate, chosen: Candidate) -> str:
        if is_proven(chosen) and not is_within_allowance(candidate):
            return (
                f"fits by its profile; {candidate.state.own_in_flight} requests are there until "
                f"its outcomes are known"
            )
        if has_open_places(chosen, self._sla_tier) and not has_open_places(
            candidate, self._sla_tier
        ):
            return self._kept(candidate)
        if self._is_unfilled_edge(chosen) and not self._is_unfilled_edge(candidate):
            if candidate.pop.tier is Tier.EDGE and candidate.cold is None:
                if not has_spare_places(candidate, self._sla_tier):
                    return self._crowded(candidate)
                return (
                    f"fits; edge filled to {self._fill(candidate.node.id):.0%}, "
                    f"at or over {self._edge_fill_ratio:.0%}"
                )
            return f"fits; edge capacity on {chosen.node.id} is paid for and free"
        more = candidate.price_nano_usd_per_1k_tokens - chosen.price_nano_usd_per_1k_tokens
        if more > 0:
            return f"fits; dearer than {chosen.node.id} by {more} nano-USD per 1,000 tokens"
        late_ms = candidate.ttft_ms_p99 - chosen.ttft_ms_p99
        if candidate in near_ties([candidate, chosen]) and chosen in near_ties([candidate, chosen]):
            return f"fits; like {chosen.node.id}, which was drawn by headroom"
        if late_ms < 0.0:
            return f"fits; sooner than {chosen.node.id} by its profile, which no outcome confirms"
        return f"fits; costs as much as {chosen.node.id}, {late_ms:.1f} ms later"

    def _kept(self, candidate: Candidate) -> str:
        if candidate.headroom == 0:
            return "fits, but behind others: no place is free"
        return (
            f"fits; its last {candidate.headroom} of {candidate.offer.max_parallel} places are "
            f"kept for those with less time than {self._sla_tier}"
        )

    def _crowded(self, candidate: Candidate) -> str:
        places = candidate.replica.profile.max_parallel
        return (
            f"fits; the edge has {candidate.headroom} of {places} places free, "
            f"too few to prefer it for {self._sla_tier}"
        )

    def _late(self, candidate: Candidate) -> str:
        over_ms = candidate.ttft_ms_p99 - self._budget_ms
        return f"over the budget by {over_ms:.1f} ms"

    def _is_unfilled_edge(self, candidate: Candidate) -> bool:
        return (
            self._edge_fill_ratio > 0.0
            and candidate.pop.tier is Tier.EDGE
            and candidate.cold is None
            and has_spare_places(candidate, self._sla_tier)
            and self._fill(candidate.node.id) < self._edge_fill_ratio
        )


def _load_words(candidate: Candidate) -> str:
    cold = candidate.cold
    if cold is None:
        return ""
    where = str(cold.way.residency).replace("_", " ")
    return f"; loads it first ({cold.way.path} from {where}, P99 {cold.p99_ms:.0f} ms)"


def _explain_rejected(line: Rejected) -> CandidateExplanation:
    verdict = f"never: {line.filter}"
    if line.filter is Filter.NOT_READY:
        verdict += f" (replica is {line.replica.state})"
    elif line.filter is Filter.RESIDENCY and line.pop is not None:
        verdict += f" ({line.pop.zone})"
    return CandidateExplanation(
        node_id=line.node_id,
        pop_id=line.pop.id if line.pop else "",
        tier=line.pop.tier if line.pop else None,
        zone=line.pop.zone if line.pop else "",
        prediction=None,
        price_nano_usd_per_1k_tokens=0,
        fits=False,
        chosen=False,
        verdict=verdict,
    )


def _summary(placement: Placement) -> str:
    chosen = placement.chosen
    outcome = "predicted miss" if placement.predicted_miss else "fits"
    return (
        f"{chosen.node.id} in {chosen.pop.id} serves ({placement.serving_tier}), "
        f"billed as {placement.billing_tier}: "
        f"P99 {chosen.ttft_ms_p99:.1f} ms, {outcome}"
    )


def _price_then_time(candidate: Candidate) -> tuple[int, float]:
    return candidate.price_nano_usd_per_1k_tokens, candidate.ttft_ms_p99
