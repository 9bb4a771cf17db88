"""Where a request goes: hard filters, then the cheapest target that is predicted to be in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from protos.domain.fleet_view import FleetView
from protos.domain.resources import Deployment, Node, Pop, Price, Replica, Tier
from protos.domain.ttft import Prediction

#: Edge nodes under this share of their calibrated tokens/s are preferred among those that fit.
EDGE_FILL_RATIO = 0.70


@dataclass(frozen=True, slots=True)
class RequestShape:
    """What the router needs to know of a request.

    ``prompt_tokens`` must not over-estimate: prompts longer than the model's context are refused.
    ``budget_left_ms`` is the first-token budget less what has passed since the first byte.
    ``narrowed_zones`` is the request's own residency header; None when it has none.
    """

    deployment: Deployment
    prompt_tokens: int
    body_bytes: int
    stream: bool
    budget_left_ms: float
    narrowed_zones: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class TargetState:
    """What this agent knows of a node beyond the table.

    ``rtt_ms_*`` is None until measured: the router then estimates it from the distance.
    ``in_flight`` requests are being served there, ``queued`` ones wait for their turn.
    ``warm``: a connection stands open. ``ejected``: it failed lately and is left alone for a while.
    ``ready_models``: what its agent itself said it can serve, fresher than the table; None when it
    has not said.
    """

    rtt_ms_p50: float | None
    rtt_ms_p99: float | None
    in_flight: int
    queued: int
    warm: bool
    ejected: bool
    ready_models: frozenset[str] | None = None


TargetLookup = Callable[[str], TargetState]

#: What is known of a node that this agent has never spoken to.
UNKNOWN_TARGET = TargetState(None, None, 0, 0, warm=False, ejected=False)


@dataclass(slots=True)
class Candidate:
    """A target that passed every hard filter. Written once; not frozen because it is hot.

    ``price_nano_usd_per_1k_tokens`` is for 1,000 prompt tokens and 1,000 completion tokens.
    ``headroom`` is how many more requests it serves before a queue forms.
    """

    node: Node
    pop: Pop
    replica: Replica
    price: Price | None
    price_nano_usd_per_1k_tokens: int
    prediction: Prediction
    fits: bool
    headroom: int


@dataclass(slots=True)
class Placement:
    """Where a request goes, what it was chosen from, and which tiers serve and bill it."""

    candidates: list[Candidate]
    chosen: Candidate
    predicted_miss: bool
    serving_tier: Tier
    billing_tier: Tier


@dataclass(frozen=True, slots=True)
class CandidateExplanation:
    """Why one replica won or lost; ``prediction`` is None when a hard filter removed it."""

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
    """Every replica of a deployment's model as this agent sees it now."""

    deployment: str
    via_node: str
    budget_ms: float
    candidates: tuple[CandidateExplanation, ...]
    predicted_miss: bool
    serving_tier: Tier | None
    billing_tier: Tier | None
    summary: str


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
) -> Placement:
    """Choose where ``request`` goes. Hot: linear in the replicas of the model.

    ``draw`` is uniform in [0, 1). ``fill`` gives a node's tokens/s over its calibrated capacity.
    ``excluded`` are nodes already tried for this request.
    Raises: NoReplica with Retry-After; BudgetUnreachable for a strict deployment; InvalidRequest
    when the prompt is longer than the model's context.
    """
    raise NotImplementedError


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
) -> RouteExplanation:
    """Say of every replica of the model why it would win or lose. Never raises; not hot."""
    raise NotImplementedError
