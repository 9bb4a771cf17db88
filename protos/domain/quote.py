"""What recent requests would have cost under other budgets: their placement, replayed.

Each recorded request is placed again by the router's own ``choose``, among the candidates that it
had, with their recorded predictions and headroom, at the present price card. What follows from
another choice is estimated so:

- *Cost*: the recorded tokens at the billing tier that ``choose`` returns. The cached share of a
  prompt is that of the target that did serve, though another may have had less of it.
- *Serving*: whether an edge was under its fill is not recorded. A request that an edge served is
  replayed as if edges were, any other as if they were not. Draws among near-ties are tried in a
  fixed order, and one that gives the recorded target counts as the draw.
- *Kept*: where the recorded target is chosen again, by its outcome. Else by the probability that
  the chosen target's predicted quantiles give.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from protos.domain.candidates import LOAD_TERM, SETTLED_OBSERVATIONS, Candidate
from protos.domain.choice import EDGE_FILL_RATIO, choose, in_time_ratio
from protos.domain.errors import BudgetUnreachable
from protos.domain.load_term import ColdPath, ColdWay, LoadTerm
from protos.domain.offers import Offer
from protos.domain.pricing import cost_of, rate_nano_usd_per_1k_tokens, surcharged
from protos.domain.resources import (
    NO_TERMS,
    EngineProfile,
    Node,
    NodeHealth,
    NodeIntent,
    Pop,
    Replica,
    ReplicaState,
    Residency,
    Tier,
)
from protos.domain.targets import RequestShape, TargetState
from protos.domain.ttft import Prediction

if TYPE_CHECKING:
    from protos.domain.choice import Placement
    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import Deployment, Price
    from protos.domain.trace import Trace, TraceCandidate

#: Fewer requests than this tell little about a hundredth of them.
FEW_REQUESTS = 100
MAX_BUDGETS = 10
_TOKENS_QUOTED = 1_000_000
#: Draws that are tried until one gives the recorded target.
_DRAWS = (0.5, 0.1, 0.9, 0.3, 0.7)
_EMBEDDINGS = "/v1/embeddings"


@dataclass(frozen=True, slots=True)
class Replayed:
    """One request under another budget. ``tier`` None: a strict deployment would have refused it.

    ``in_time`` is the probability of a first token in time, None where there is none to see.
    """

    tier: Tier | None
    nano_usd: int = 0
    predicted_miss: bool = False
    in_time: float | None = None
    #: ``in_time`` is what happened.
    observed: bool = False


@dataclass(slots=True)
class QuoteLine:
    """All requests under one budget. ``kept`` and ``observed`` are of ``streams``."""

    budget_ms: float
    requests: int = 0
    streams: int = 0
    kept: float = 0.0
    observed: int = 0
    predicted_misses: int = 0
    refused: int = 0
    total_nano_usd: int = 0
    tokens: int = 0
    billed_by_tier: Counter[str] = field(default_factory=Counter)
    costs_nano_usd: list[int] = field(default_factory=list)

    @property
    def kept_ratio(self) -> float:
        """The share of streams whose first token would have come in time; 0 without a stream."""
        return self.kept / self.streams if self.streams else 0.0

    @property
    def observed_ratio(self) -> float:
        """The share of streams for which that is what happened, not an estimate."""
        return self.observed / self.streams if self.streams else 0.0

    @property
    def nano_usd_per_million_tokens(self) -> int:
        """The cost of a million tokens, prompt and completion mixed as seen; rounded half up."""
        if not self.tokens:
            return 0
        return (2 * self.total_nano_usd * _TOKENS_QUOTED + self.tokens) // (2 * self.tokens)

    @property
    def median_nano_usd(self) -> int:
        """The cost of a typical request: the median by nearest rank."""
        costs = sorted(self.costs_nano_usd)
        return costs[(len(costs) - 1) // 2] if costs else 0


def quote(
    view: FleetView,
    deployment: Deployment,
    traces: Iterable[Trace],
    budgets_ms: Sequence[float],
    *,
    pinned: bool,
) -> list[QuoteLine]:
    """Return one line for each budget. ``pinned``: the residency surcharge applies."""
    lines = [QuoteLine(budget_ms) for budget_ms in budgets_ms]
    for trace in traces:
        if not is_replayable(trace, deployment):
            continue
        for line in lines:
            done = replay(view, deployment, trace, line.budget_ms, pinned=pinned)
            if done is not None:
                _add(line, trace, done)
    return lines


def is_replayable(trace: Trace, deployment: Deployment) -> bool:
    """Whether a request was answered by the present model, with tokens that are billed.

    A deployment of that name may have been another account's before.
    """
    if trace.account != deployment.account_id:
        return False
    if trace.status != 200 or trace.model != deployment.model or not trace.attempts:
        return False
    if not trace.attempts[0].candidates or trace.clock_jumped:
        return False
    usage = trace.usage
    return usage.completion_tokens > 0 or (trace.path == _EMBEDDINGS and usage.prompt_tokens > 0)


def replay(
    view: FleetView, deployment: Deployment, trace: Trace, budget_ms: float, *, pinned: bool
) -> Replayed | None:
    """Place one recorded request again under ``budget_ms``; None if no candidate is priced now."""
    attempt = trace.attempts[0]
    passed_ms = trace.budget_ms - attempt.budget_left_ms
    shape = RequestShape(
        deployment,
        trace.usage.prompt_tokens,
        body_bytes=0,
        stream=trace.stream,
        budget_left_ms=budget_ms - passed_ms,
        narrowed_zones=None,
    )
    candidates = _candidates(view, shape, attempt.candidates)
    if not candidates:
        return None
    recorded = next((one for one in attempt.candidates if one.chosen), None)
    try:
        placement = _placed(view, shape, candidates, recorded)
    except BudgetUnreachable:
        return Replayed(None)
    price = _price_of(view, deployment, placement.billing_tier)
    if price is None:
        return None
    terms = view.card.get("terms", NO_TERMS)
    price = surcharged(price, terms, deployment.sla_tier, pinned=pinned)
    same = recorded is not None and placement.chosen.offer.node_id == recorded.node_id
    return Replayed(
        placement.billing_tier,
        cost_of(trace.usage, price).total_nano_usd,
        placement.predicted_miss,
        _in_time(trace, placement.chosen, shape, budget_ms, same=same),
        same and trace.felt_ttft_ms is not None,
    )


def _placed(
    view: FleetView,
    shape: RequestShape,
    candidates: list[Candidate],
    recorded: TraceCandidate | None,
) -> Placement:
    """Choose, by a draw that gives the recorded target if one does. Raises: BudgetUnreachable."""
    filled = 0.0 if recorded is not None and recorded.tier is Tier.EDGE else 1.0
    first: Placement | None = None
    for draw in _DRAWS:
        found = choose(
            view,
            shape,
            candidates,
            draw=draw,
            fill=lambda _: filled,
            edge_fill_ratio=EDGE_FILL_RATIO,
        )
        first = first or found
        if recorded is None or found.chosen.offer.node_id == recorded.node_id:
            return found
    assert first is not None
    return first


def _in_time(
    trace: Trace, chosen: Candidate, shape: RequestShape, budget_ms: float, *, same: bool
) -> float | None:
    felt_ms = trace.felt_ttft_ms
    if felt_ms is None:
        return None
    if same:
        return float(felt_ms <= budget_ms)
    return in_time_ratio(*chosen.lower_quantiles_ms, chosen.ttft_ms_p99, shape.budget_left_ms)


def _candidates(
    view: FleetView, shape: RequestShape, recorded: Collection[TraceCandidate]
) -> list[Candidate]:
    """Return the recorded candidates as the router has them, without those not priced now."""
    found = []
    for one in recorded:
        price = _price_of(view, shape.deployment, one.tier)
        if price is None:
            continue
        cold = None
        if LOAD_TERM in one.term_names:
            load_ms = one.term_values_ms[one.term_names.index(LOAD_TERM)]
            if load_ms > 0.0:
                way = ColdWay(ColdPath.ENGINE, Residency.DISK)
                cold = LoadTerm(way, load_ms, load_ms, learned=False)
        found.append(
            Candidate(
                _offer(view, shape.deployment, one, price),
                TargetState(None, None, 0, 0, warm=True, ejected=False),
                shape,
                None,
                one.ttft_ms_p99,
                one.ttft_ms_p99 <= shape.budget_left_ms,
                one.headroom,
                SETTLED_OBSERVATIONS,
                cold,
                Prediction(one.ttft_ms_p50, one.ttft_ms_p99, one.term_values_ms, one.term_names),
            )
        )
    return found


def _offer(view: FleetView, deployment: Deployment, one: TraceCandidate, price: Price) -> Offer:
    """Return a recorded target as an offer; the node may be gone by now."""
    known = view.replicas.get(deployment.model, {}).get(one.node_id)
    profile = known.profile if known else EngineProfile(0.0, 0.0, max(one.headroom, 1), 0.0)
    pop = Pop(one.pop_id, one.tier, "", "", 0.0, 0.0)
    node = Node(one.node_id, one.pop_id, "", 0, "", NodeHealth.READY, NodeIntent.ACTIVE)
    replica = Replica(one.node_id, deployment.model, ReplicaState.READY, profile, 0)
    return Offer(
        one.node_id,
        node,
        pop,
        replica,
        price,
        rate_nano_usd_per_1k_tokens(price),
        None,
        False,
        pop.zone,
        one.tier is Tier.EDGE,
        True,
        profile,
        profile.max_parallel,
        None,
    )


def _price_of(view: FleetView, deployment: Deployment, tier: Tier) -> Price | None:
    model = view.models.get(deployment.model)
    return None if model is None else view.prices.get((model.size_class, tier))


def _add(line: QuoteLine, trace: Trace, done: Replayed) -> None:
    if done.tier is None:
        line.refused += 1
        return
    line.requests += 1
    line.total_nano_usd += done.nano_usd
    line.tokens += trace.usage.prompt_tokens + trace.usage.completion_tokens
    line.costs_nano_usd.append(done.nano_usd)
    line.billed_by_tier[str(done.tier)] += 1
    line.predicted_misses += done.predicted_miss
    if done.in_time is not None:
        line.streams += 1
        line.kept += done.in_time
        line.observed += done.observed
