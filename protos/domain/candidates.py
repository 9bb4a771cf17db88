"""Which replicas may serve a request at all, and what each is predicted to take and cost."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain import geo
from protos.domain.errors import EdgeForgeError, InvalidRequest, NoReplica
from protos.domain.learned_ttft import predict_learned
from protos.domain.predictor import NOTHING_LEARNED, TargetModel
from protos.domain.pricing import rate_nano_usd_per_1k_tokens
from protos.domain.regimes import Load
from protos.domain.residency import allowed_zones
from protos.domain.resources import NodeHealth, NodeIntent, ReplicaState, Tier
from protos.domain.ttft import Network, Prediction, network_to, predict

if TYPE_CHECKING:
    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import Deployment, EngineProfile, Node, Pop, Price, Replica

#: Rate of a target whose tier is not on the price card: last resort, after everything priced.
UNPRICED_NANO_USD_PER_1K_TOKENS = 1 << 62
#: Distance assumed to a target whose place, or our own, is unknown: half way round the earth.
_FARTHEST_KM = 20_000.0


class Filter(enum.StrEnum):
    """A hard filter, in the words a user reads when it leaves nothing."""

    TOPOLOGY = "not in the topology"
    MODE = "of the other kind"
    TOOLS = "without a parser of tool calls"
    RESIDENCY = "outside the allowed zones"
    DEAD = "dead"
    UNROUTABLE = "unroutable"
    DRAINING = "draining"
    RETIRED = "retired"
    NOT_READY = "not ready"
    ADAPTER = "without the adapter"
    EJECTED = "left alone after failures"
    TRIED = "tried already"


#: How soon each filter may let a request through again.
_RETRY_AFTER_S = {
    Filter.TOPOLOGY: 5.0,
    Filter.MODE: 60.0,
    Filter.TOOLS: 60.0,
    Filter.RESIDENCY: 60.0,
    Filter.DEAD: 5.0,
    Filter.UNROUTABLE: 5.0,
    Filter.DRAINING: 5.0,
    Filter.RETIRED: 60.0,
    Filter.NOT_READY: 5.0,
    Filter.ADAPTER: 60.0,
    Filter.EJECTED: 1.0,
    Filter.TRIED: 1.0,
}
_NOWHERE_RETRY_AFTER_S = 60.0

_HEALTH_FILTER = {NodeHealth.DEAD: Filter.DEAD, NodeHealth.UNROUTABLE: Filter.UNROUTABLE}
_INTENT_FILTER = {NodeIntent.DRAINING: Filter.DRAINING, NodeIntent.RETIRED: Filter.RETIRED}
_READY = ReplicaState.READY
_TIERS = tuple(Tier)


@dataclass(slots=True)
class RequestShape:
    """What the router needs to know of a request. Written once; not frozen because it is hot.

    ``prompt_tokens`` must not over-estimate: prompts longer than the model's context are refused.
    ``expected_tokens`` is what to predict with; 0: the same.
    ``budget_left_ms`` is the first-token budget less what has passed since the first byte.
    ``narrowed_zones`` is the request's own residency header; None when it has none.
    """

    deployment: Deployment
    prompt_tokens: int
    body_bytes: int
    stream: bool
    budget_left_ms: float
    narrowed_zones: frozenset[str] | None
    #: It needs an engine that embeds; else one that generates.
    embeds: bool = False
    expected_tokens: int = 0
    #: It leaves the choice of a tool to the model.
    automatic_tools: bool = False


@dataclass(slots=True)
class TargetState:
    """What this agent knows of a node beyond the table. Written once; not frozen: it is hot.

    ``rtt_ms_*`` is None until measured: the router then estimates it from the distance.
    ``in_flight`` requests are being served there, ``queued`` ones wait for their turn.
    ``warm``: a connection stands open. ``ejected``: it failed lately and is left alone for a while.
    ``ready_models``: what its agent itself said it can serve, fresher than the table; None when it
    has not said. ``cached_ratio`` is the share of this request's prompt expected in its cache.
    ``backlog_tokens`` of prompts that this agent sent there have no first token yet, and
    ``progress_ms`` have passed since one of them had.
    """

    rtt_ms_p50: float | None
    rtt_ms_p99: float | None
    in_flight: int
    queued: int
    warm: bool
    ejected: bool
    ready_models: frozenset[str] | None = None
    cached_ratio: float = 0.0
    backlog_tokens: float = 0.0
    progress_ms: float = 0.0


TargetLookup = Callable[[str], TargetState]

#: What is known of a node that this agent has never spoken to.
UNKNOWN_TARGET = TargetState(None, None, 0, 0, warm=False, ejected=False)


@dataclass(slots=True)
class Candidate:
    """A target that passed every hard filter. Written once; not frozen because it is hot.

    ``price_nano_usd_per_1k_tokens`` is for 1,000 prompt tokens and 1,000 completion tokens.
    ``headroom`` is how many more requests it serves before a queue forms, not below 0. ``load`` is
    what the request would meet there, and ``network`` its way: what an outcome is learned with.
    """

    node: Node
    pop: Pop
    replica: Replica
    price: Price | None
    price_nano_usd_per_1k_tokens: int
    prediction: Prediction
    fits: bool
    headroom: int
    load: Load
    network: Network


@dataclass(frozen=True, slots=True)
class Rejected:
    """A replica that a hard filter removed, and why."""

    node_id: str
    replica: Replica
    pop: Pop | None
    filter: Filter


def gather(
    view: FleetView,
    request: RequestShape,
    self_node_id: str,
    live: TargetLookup,
    excluded: frozenset[str],
    rejected: list[Rejected] | None = None,
    learned: Mapping[str, TargetModel] = NOTHING_LEARNED,
) -> list[Candidate]:
    """Return every replica that may serve ``request``; add the others to ``rejected`` if given.

    Hot: one pass over the model's replicas.
    """
    deployment = request.deployment
    zones = allowed_zones(deployment.residency_zones, request.narrowed_zones)
    rates = _rates_by_tier(view, deployment.model)
    nodes, pops = view.nodes, view.pops
    found: list[Candidate] = []
    for node_id, replica in view.replicas.get(deployment.model, {}).items():
        node = nodes.get(node_id)
        pop = None if node is None else pops.get(node.pop_id)
        if node is None or pop is None:
            if rejected is not None:
                rejected.append(Rejected(node_id, replica, pop, Filter.TOPOLOGY))
            continue
        state = live(node_id)
        if replica.profile.embeds is not request.embeds:
            if rejected is not None:
                rejected.append(Rejected(node_id, replica, pop, Filter.MODE))
            continue
        failed = _failed_filter(node, pop, replica, state, request, zones, excluded)
        if failed is not None:
            if rejected is not None:
                rejected.append(Rejected(node_id, replica, pop, failed))
            continue
        price, rate = rates.get(pop.tier) or (None, UNPRICED_NANO_USD_PER_1K_TOKENS)
        profile = replica.profile
        rtt_ms_p50, rtt_ms_p99 = _round_trips(view, self_node_id, node_id, pop, state)
        network = network_to(rtt_ms_p50, warm=state.warm, body_bytes=request.body_bytes)
        load = load_at(state, profile, request)
        target = learned.get(node_id)
        if target is not None and target.known:
            prediction = predict_learned(target, load, network)
        else:
            prediction = predict(
                profile,
                network,
                rtt_ms_p99=rtt_ms_p99,
                in_flight=state.in_flight,
                queued=state.queued,
                prompt_tokens=load.prompt_tokens,
            )
        headroom = profile.max_parallel - state.in_flight - state.queued
        found.append(
            Candidate(
                node,
                pop,
                replica,
                price,
                rate,
                prediction,
                prediction.ttft_ms_p99 <= request.budget_left_ms,
                headroom if headroom > 0 else 0,
                load,
                network,
            )
        )
    return found


def check_context(view: FleetView, request: RequestShape) -> None:
    """Refuse a prompt that no replica of the model can hold. Raises: InvalidRequest."""
    model = view.models.get(request.deployment.model)
    if model is None or not 0 < model.context_tokens <= request.prompt_tokens:
        return
    raise InvalidRequest(
        f"the prompt has at least {request.prompt_tokens} tokens, "
        f"the context of {request.deployment.name!r} is {model.context_tokens}",
        "shorten the prompt",
        code="context_length_exceeded",
    )


def no_replica(request: RequestShape, rejected: Sequence[Rejected]) -> EdgeForgeError:
    """Return the error that says why nothing may serve ``request``, and when to try again.

    Only engines of the other kind: the client asks for what the model does not do.
    """
    name = request.deployment.name
    if not rejected:
        return NoReplica(
            f"{name!r} is deployed on no engine",
            "place its model on a node, or retry later",
            retry_after_s=_NOWHERE_RETRY_AFTER_S,
        )
    filters = {line.filter for line in rejected}
    if filters == {Filter.MODE}:
        if request.embeds:
            does, instead = "generates text and gives no embeddings", "/v1/chat/completions"
        else:
            does, instead = "gives embeddings and generates no text", "/v1/embeddings"
        return InvalidRequest(f"{name!r} {does}", f"call {instead}", param="model")
    if filters == {Filter.TOOLS}:
        return InvalidRequest(
            f"{name!r} cannot choose a tool by itself: its engine names no parser of tool calls",
            "ask the operator to set engine.tool_parser, or leave the tools out",
            code="tool_choice_unsupported",
            param="tool_choice",
        )
    retry_after_s = min(_RETRY_AFTER_S[each] for each in filters)
    if filters == {Filter.RESIDENCY}:
        zones = allowed_zones(request.deployment.residency_zones, request.narrowed_zones)
        return NoReplica(
            f"residency leaves no engine for {name!r}: "
            f"it may be served in {', '.join(sorted(zones or ())) or 'no zone at all'}",
            "widen x-edgeforge-residency, or deploy in an allowed zone",
            retry_after_s=retry_after_s,
        )
    why = ", ".join(sorted(filters))
    return NoReplica(
        f"no engine can serve {name!r} now: {why}", "retry later", retry_after_s=retry_after_s
    )


def _failed_filter(
    node: Node,
    pop: Pop,
    replica: Replica,
    state: TargetState,
    request: RequestShape,
    zones: frozenset[str] | None,
    excluded: frozenset[str],
) -> Filter | None:
    """Return the first hard filter that ``node`` fails, or None."""
    if zones is not None and pop.zone not in zones:
        return Filter.RESIDENCY
    if (failed := _HEALTH_FILTER.get(node.health) or _INTENT_FILTER.get(node.intent)) is not None:
        return failed
    ready_models = state.ready_models
    if not (replica.state is _READY if ready_models is None else replica.model in ready_models):
        return Filter.NOT_READY
    if request.deployment.adapter:
        return Filter.ADAPTER
    if request.automatic_tools and replica.profile.lacks_tool_parser:
        return Filter.TOOLS
    if state.ejected:
        return Filter.EJECTED
    return Filter.TRIED if node.id in excluded else None


def _rates_by_tier(view: FleetView, model_name: str) -> dict[Tier, tuple[Price, int]]:
    model = view.models.get(model_name)
    if model is None:
        return {}
    rates: dict[Tier, tuple[Price, int]] = {}
    for tier in _TIERS:
        price = view.prices.get((model.size_class, tier))
        if price is not None:
            rates[tier] = (price, rate_nano_usd_per_1k_tokens(price))
    return rates


def load_at(state: TargetState, profile: EngineProfile, request: RequestShape) -> Load:
    """Return what ``request`` would meet at a target of ``profile`` in ``state``. Hot."""
    in_flight, queued = state.in_flight, state.queued
    over = in_flight + queued + 1 - profile.max_parallel
    return Load(
        (request.expected_tokens or request.prompt_tokens) * (1.0 - state.cached_ratio),
        in_flight,
        state.backlog_tokens,
        over if over > queued else queued,
        state.progress_ms,
    )


def _round_trips(
    view: FleetView, self_node_id: str, node_id: str, pop: Pop, state: TargetState
) -> tuple[float, float]:
    """Return median and P99 of the round trip: measured, or guessed from the distance."""
    if node_id == self_node_id:
        return 0.0, 0.0
    if (rtt_ms_p50 := state.rtt_ms_p50) is not None:
        return rtt_ms_p50, rtt_ms_p50 if state.rtt_ms_p99 is None else state.rtt_ms_p99
    distance_km = _distance_km(view, self_node_id, pop)
    return geo.prior_rtt_ms_p50(distance_km), geo.prior_rtt_ms_p99(distance_km)


def _distance_km(view: FleetView, self_node_id: str, pop: Pop) -> float:
    node = view.nodes.get(self_node_id)
    here = None if node is None else view.pops.get(node.pop_id)
    if here is None:
        return _FARTHEST_KM
    return geo.great_circle_km(
        here.latitude_deg, here.longitude_deg, pop.latitude_deg, pop.longitude_deg
    )
