"""Which replicas may serve a request, with the predicted first token and the price of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from protos.domain.context_limit import holds_prompt
from protos.domain.learned_ttft import (
    P99,
    SETTLED_OUTCOMES,
    evidence_of,
    handed_over_ms,
    learned_ms,
    lower_quantiles_ms,
    predict_from,
)
from protos.domain.load_term import ColdPath, LoadTerm, LoadTerms
from protos.domain.offer_lookup import offers_of
from protos.domain.predictor import FEW_OBSERVATIONS, NOTHING_LEARNED, TargetModel
from protos.domain.regimes import TOKENS_UNIT, Evidence, Load
from protos.domain.rejections import cold_way, is_too_dear, rejections
from protos.domain.residency import allowed_zones
from protos.domain.ttft import (
    HANDSHAKE_ROUND_TRIPS,
    Network,
    Prediction,
    backlog_time_ms,
    network_to,
    predict,
    profile_ms_p99,
    transfer_rounds,
    wire_time_ms,
)

if TYPE_CHECKING:
    from protos.domain.fleet_view import FleetView
    from protos.domain.offers import Offer, Offers, Rejected
    from protos.domain.resources import EngineProfile, Node, Pop, Price, Replica
    from protos.domain.targets import RequestShape, TargetLookup, TargetState

#: Outcomes from which a prediction no longer keeps near the profile's.
SETTLED_OBSERVATIONS = FEW_OBSERVATIONS + SETTLED_OUTCOMES
#: Name of the load's term in a prediction.
LOAD_TERM = "load"


#: Without any cold start seen: what is assumed. Never learned from.
NO_COLD_STARTS = LoadTerms()


@dataclass(slots=True)
class Candidate:
    """A target that passed every hard filter. Never changed; not frozen, for speed.

    ``headroom`` is how many more requests it serves before a queue forms, not below 0.
    ``outcomes`` are first tokens that this agent has seen there; its own engine needs none, since
    its profile is this host's own. They count for nothing where a load comes first. ``cold`` is the
    load that a request waits for first, in ``ttft_ms_p99``; None: what is asked for is in the
    engine. Properties are computed when they are read, from the state at the decision.
    """

    offer: Offer
    state: TargetState
    request: RequestShape
    evidence: Evidence | None
    ttft_ms_p99: float
    fits: bool
    headroom: int
    outcomes: int
    cold: LoadTerm | None = None
    _prediction: Prediction | None = field(default=None, compare=False, repr=False)

    @property
    def node(self) -> Node:
        return self.offer.node

    @property
    def pop(self) -> Pop:
        return self.offer.pop

    @property
    def replica(self) -> Replica:
        return self.offer.replica

    @property
    def price(self) -> Price | None:
        return self.offer.price

    @property
    def price_nano_usd_per_1k_tokens(self) -> int:
        """The rate for 1,000 prompt tokens and 1,000 completion tokens."""
        return self.offer.rate_nano_usd_per_1k_tokens

    @property
    def load(self) -> Load:
        """The load that the request would meet there; outcomes are learned with it."""
        return load_at(self.state, self.offer.max_parallel, self.request)

    @property
    def network(self) -> Network:
        """The network time there and back; outcomes are learned with it."""
        rtt_ms, _ = _round_trips(self.offer, self.state)
        return network_to(rtt_ms, warm=self.state.warm, body_bytes=self.request.body_bytes)

    @property
    def there_ms(self) -> float:
        """The whole network time."""
        return self.network.total_ms

    @property
    def learned(self) -> bool:
        """Whether the prediction comes from outcomes rather than from the profile."""
        return self.evidence is not None

    @property
    def lower_quantiles_ms(self) -> tuple[float, float]:
        """Median and P95 of the first token."""
        if self.evidence is not None and self.cold is None:
            return lower_quantiles_ms(self.evidence, self.load, self.there_ms, self.ttft_ms_p99)
        prediction = self.prediction
        return prediction.ttft_ms_p50, prediction.p95_ms

    @property
    def prediction(self) -> Prediction:
        """The terms of ``ttft_ms_p99``."""
        made = self._prediction
        if made is None:
            cold = self.cold
            if cold is None:
                made = self._predict(self.ttft_ms_p99)
            else:
                made = self._predict(self.ttft_ms_p99 - cold.p99_ms)
                made = made.after(LOAD_TERM, cold.p50_ms, cold.p99_ms, learned=cold.learned)
            self._prediction = made
        return made

    def _predict(self, ttft_ms_p99: float) -> Prediction:
        """Predict as if what is asked for were in the engine."""
        load = self.load
        if self.evidence is not None:
            return predict_from(self.evidence, load, self.network, ttft_ms_p99)
        return predict(
            self.offer.profile,
            self.network,
            rtt_ms_p99=_round_trips(self.offer, self.state)[1],
            in_flight=self.state.in_flight,
            queued=self.state.queued,
            prompt_tokens=load.prompt_tokens,
            backlog_tokens=load.backlog_tokens,
            progress_ms=load.progress_ms,
        )


def gather(
    view: FleetView,
    request: RequestShape,
    self_node_id: str,
    live: TargetLookup,
    excluded: frozenset[str],
    rejected: list[Rejected] | None = None,
    learned: Mapping[str, TargetModel] = NOTHING_LEARNED,
    loads: LoadTerms = NO_COLD_STARTS,
) -> list[Candidate]:
    """Return every replica that may serve ``request``; add the others to ``rejected`` if given.

    Hot: no function call for most replicas. ``Candidate.prediction`` computes the terms of
    ``ttft_ms_p99``, not this.
    """
    deployment, budget_ms = request.deployment, request.budget_left_ms
    model, adapter = deployment.model, deployment.adapter
    name = adapter or model
    zones = allowed_zones(deployment.residency_zones, request.narrowed_zones)
    expected_tokens = request.expected_tokens or request.prompt_tokens
    rounds, wire_ms = transfer_rounds(request.body_bytes), wire_time_ms(request.body_bytes)
    offers = offers_of(view, model, self_node_id, adapter)
    found: list[Candidate] = []
    for offer in _able(offers, request):
        node_id = offer.node_id
        state = live(node_id)
        ready, cold = state.ready_models, None
        if (
            not (offer.is_ready if ready is None else name in ready)
            and (cold := _load_first(offer, offers, state, name, loads)) is None
        ):
            continue
        if state.ejected or node_id in excluded or (zones is not None and offer.zone not in zones):
            continue
        rtt_ms = 0.0 if offer.is_own else state.rtt_ms_p50
        if rtt_ms is None:
            rtt_ms = offer.prior_rtts_ms()[0]
        there_ms = 0.0
        if rtt_ms > 0.0:
            handshake_ms = 0.0 if state.warm else HANDSHAKE_ROUND_TRIPS * rtt_ms
            there_ms = rtt_ms + handshake_ms + (rounds * rtt_ms + wire_ms)
        tokens = expected_tokens * (1.0 - state.cached_ratio)
        in_flight, queued = state.in_flight, state.queued
        headroom = offer.max_parallel - in_flight - queued
        evidence: Evidence | None = None
        target = learned.get(node_id)
        outcomes = 0 if target is None else target.observations
        if target is None or outcomes < FEW_OBSERVATIONS:
            rtts_ms = _round_trips(offer, state)
            ttft_ms = _by_profile(offer.profile, there_ms, rtts_ms, state, 1 - headroom, tokens)
        else:
            if state.backlog_tokens or headroom < 1 or queued:
                evidence, ttft_ms = _behind(target, state, tokens, 1 - headroom)
            else:
                evidence = target.regimes[0].quantiles
                engine_ms, prompt_ms, batch_ms, _, _ = evidence[P99]
                ttft_ms = engine_ms + prompt_ms * (tokens / TOKENS_UNIT) + batch_ms * in_flight
            ttft_ms += there_ms
            if outcomes < SETTLED_OBSERVATIONS:
                rtts_ms = _round_trips(offer, state)
                profile_ms = _by_profile(
                    offer.profile, there_ms, rtts_ms, state, 1 - headroom, tokens
                )
                more = outcomes - FEW_OBSERVATIONS
                ttft_ms = handed_over_ms(ttft_ms, profile_ms, more)
        if cold is not None:
            ttft_ms += cold.p99_ms
            outcomes = 0
        elif offer.is_own:
            outcomes = SETTLED_OBSERVATIONS
        fits, headroom = ttft_ms <= budget_ms, headroom if headroom > 0 else 0
        found.append(
            Candidate(offer, state, request, evidence, ttft_ms, fits, headroom, outcomes, cold)
        )
    if rejected is not None:
        rejected += rejections(offers, request, zones, live, {one.node.id for one in found})
    return found


def _able(offers: Offers, request: RequestShape) -> Sequence[Offer]:
    """Return the offers able and allowed by pins to serve ``request``, ready or not."""
    able: Sequence[Offer] = offers.embedding if request.embeds else offers.generating
    if request.embeds and request.deployment.adapter:
        return ()  # adapters are of models that generate
    if request.deployment.max_premium_percent:
        able = [offer for offer in able if not is_too_dear(offer, offers, request)]
    if (pins := request.deployment.pins) is not None:
        able = [offer for offer in able if offer.node_id in pins]
    if 0 < offers.shortest_context_tokens <= request.prompt_tokens:
        able = [offer for offer in able if holds_prompt(offer.profile, request.prompt_tokens)]
    if request.needs_tool_parser:
        return [offer for offer in able if not offer.profile.lacks_tool_parser]
    return able


def _load_first(
    offer: Offer, offers: Offers, state: TargetState, name: str, loads: LoadTerms
) -> LoadTerm | None:
    """Return the load of ``name`` that a request would wait for there; None: it would not load."""
    way = cold_way(offer, state, name)
    if way is None:
        return None
    weights_bytes = offers.adapter_bytes
    if way.path is not ColdPath.ADAPTER:
        weights_bytes += offers.model_bytes
    return loads.expect(offer.node_id, way, weights_bytes)


def _by_profile(
    profile: EngineProfile,
    there_ms: float,
    rtts_ms: tuple[float, float],
    state: TargetState,
    ahead: int,
    tokens: float,
) -> float:
    """Predict a target whose outcomes are too few."""
    backlog_ms = 0.0
    if state.backlog_tokens:
        backlog_ms = backlog_time_ms(profile, ahead, state.backlog_tokens, state.progress_ms)
    return profile_ms_p99(profile, there_ms, rtts_ms, ahead, tokens, backlog_ms)


def _behind(
    target: TargetModel, state: TargetState, tokens: float, over: int
) -> tuple[Evidence, float]:
    """Predict a target with requests ahead; ``over`` of them exceed its places."""
    queued, backlog, progress_ms = state.queued, state.backlog_tokens, state.progress_ms
    waiting = over if over > queued else queued
    evidence = evidence_of(target, backlog, waiting, progress_ms)
    return evidence, learned_ms(
        evidence, P99, tokens, state.in_flight, backlog, waiting, progress_ms
    )


def load_at(state: TargetState, max_parallel: int, request: RequestShape) -> Load:
    """Return the load for ``request`` at a target of ``max_parallel`` places in ``state``."""
    in_flight, queued = state.in_flight, state.queued
    return Load(
        (request.expected_tokens or request.prompt_tokens) * (1.0 - state.cached_ratio),
        in_flight,
        state.backlog_tokens,
        max(queued, in_flight + queued + 1 - max_parallel),
        state.progress_ms,
    )


def _round_trips(offer: Offer, state: TargetState) -> tuple[float, float]:
    """Return median and P99 of the round trip: measured, or estimated from the distance."""
    if offer.is_own:
        return 0.0, 0.0
    if (rtt_ms_p50 := state.rtt_ms_p50) is None:
        return offer.prior_rtts_ms()
    return rtt_ms_p50, rtt_ms_p50 if state.rtt_ms_p99 is None else state.rtt_ms_p99
