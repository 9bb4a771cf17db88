"""Conversion of route explanations to messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.v1 import fleet_pb2
from protos.v1 import resources_pb2 as r
from protos.wire.enums import TIER_TO_WIRE

if TYPE_CHECKING:
    from protos.domain.resources import Tier
    from protos.domain.router import CandidateExplanation, RouteExplanation


def explanation_to_wire(explanation: RouteExplanation) -> fleet_pb2.RouteExplanation:
    return fleet_pb2.RouteExplanation(
        deployment=explanation.deployment,
        via_node=explanation.via_node,
        budget_ms=explanation.budget_ms,
        candidates=[_candidate_to_wire(each) for each in explanation.candidates],
        predicted_miss=explanation.predicted_miss,
        serving_tier=_tier(explanation.serving_tier),
        billing_tier=_tier(explanation.billing_tier),
        summary=explanation.summary,
    )


def _candidate_to_wire(candidate: CandidateExplanation) -> fleet_pb2.CandidateExplanation:
    prediction = candidate.prediction
    return fleet_pb2.CandidateExplanation(
        node_id=candidate.node_id,
        pop_id=candidate.pop_id,
        tier=_tier(candidate.tier),
        zone=candidate.zone,
        ttft_ms_p99=prediction.ttft_ms_p99 if prediction else 0.0,
        terms=[
            fleet_pb2.Term(name=term.name, value_ms=term.value_ms)
            for term in (prediction.terms() if prediction else ())
        ],
        price_nano_usd_per_1k_tokens=candidate.price_nano_usd_per_1k_tokens,
        fits=candidate.fits,
        chosen=candidate.chosen,
        verdict=candidate.verdict,
    )


def _tier(tier: Tier | None) -> r.Tier.ValueType:
    return r.TIER_UNSPECIFIED if tier is None else TIER_TO_WIRE[tier]
