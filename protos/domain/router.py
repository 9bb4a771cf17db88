"""Places a request: hard filters, then the cheapest target predicted to keep the budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from protos.domain.candidates import NO_COLD_STARTS, Candidate, gather
from protos.domain.choice import EDGE_FILL_RATIO, Placement, choose
from protos.domain.explanation import CandidateExplanation, RouteExplanation, explain
from protos.domain.predictor import NOTHING_LEARNED, TargetModel
from protos.domain.refusals import check_context, no_replica
from protos.domain.targets import UNKNOWN_TARGET, RequestShape, TargetLookup, TargetState

if TYPE_CHECKING:
    from protos.domain.fleet_view import FleetView
    from protos.domain.load_term import LoadTerms
    from protos.domain.offers import Rejected

__all__ = [
    "EDGE_FILL_RATIO",
    "UNKNOWN_TARGET",
    "Candidate",
    "CandidateExplanation",
    "Placement",
    "RequestShape",
    "RouteExplanation",
    "TargetLookup",
    "TargetState",
    "explain",
    "place",
]


def place(
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
) -> Placement:
    """Choose where ``request`` goes. Hot: linear in the replicas of the model.

    ``draw`` is uniform in [0, 1). ``fill`` gives a node's tokens/s over its calibrated capacity.
    ``excluded`` are nodes already tried for this request. ``learned`` holds the predictors
    of the model's nodes that have any; the others are predicted by profile. ``loads`` has the cold
    starts seen, for targets that load what is asked for first.
    Raises: NoReplica with Retry-After; BudgetUnreachable for a strict deployment; InvalidRequest
    when the prompt is longer than the model's context.
    """
    check_context(view, request)
    candidates = gather(view, request, self_node_id, live, excluded, None, learned, loads)
    if not candidates:
        rejected: list[Rejected] = []
        gather(view, request, self_node_id, live, excluded, rejected)
        raise no_replica(request, rejected)
    return choose(view, request, candidates, draw=draw, fill=fill, edge_fill_ratio=edge_fill_ratio)
