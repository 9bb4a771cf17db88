"""A plain implementation of placement, with which the optimised one must agree."""

from __future__ import annotations

from dataclasses import dataclass

from protos.domain import geo
from protos.domain.choice import (
    DEFAULT_TIER,
    EDGE_SPARE_RATIO,
    KEPT_RATIO,
    NEAR_TIE_MS,
    NEAR_TIE_RATIO,
    in_time_ratio,
)
from protos.domain.learned_ttft import HANDOVER_FACTOR, SETTLED_OUTCOMES
from protos.domain.load_term import ColdPath, ColdWay, LoadTerms
from protos.domain.predictor import FEW_OBSERVATIONS
from protos.domain.pricing import rate_nano_usd_per_1k_tokens
from protos.domain.resources import NodeHealth, NodeIntent, ReplicaState, Residency, Tier
from protos.domain.ttft import network_to, predict

UNPRICED = 1 << 62


@dataclass
class Option:
    """One replica that may serve, and everything that the choice depends on."""

    node_id: str
    tier: Tier
    rate: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    places: int
    free: int
    #: The terms of the P99, without zeros.
    terms: dict[str, float]
    #: Whether enough outcomes are known, how many requests it has answered, and how many it has.
    proven: bool
    shown: int
    running: int


def may_serve(view, shape, node_id, state, excluded):
    """The hard filters."""
    model = shape.deployment.model
    node = view.nodes.get(node_id)
    replica = view.replicas.get(model, {}).get(node_id)
    if node is None or replica is None or node.pop_id not in view.pops:
        return False
    if replica.profile.embeds != shape.embeds:
        return False
    if shape.needs_tool_parser and replica.profile.lacks_tool_parser:
        return False
    if 0 < replica.profile.context_tokens <= shape.prompt_tokens:
        return False
    if node.health not in (NodeHealth.READY, NodeHealth.SUSPECT):
        return False
    if node.intent not in (NodeIntent.ACTIVE, NodeIntent.CORDONED):
        return False
    if unpriced(view, model, view.pops[node.pop_id].tier):
        return False
    if too_dear(view, shape, view.pops[node.pop_id].tier):
        return False
    zone = view.pops[node.pop_id].zone
    if shape.deployment.pins is not None and node_id not in shape.deployment.pins:
        return False
    if shape.deployment.residency_zones and zone not in shape.deployment.residency_zones:
        return False
    if shape.narrowed_zones is not None and zone not in shape.narrowed_zones:
        return False
    if state.ejected or node_id in excluded:
        return False
    return is_there(view, shape, node_id, state) or way_in(view, shape, node_id, state) is not None


def unpriced(view, model_name, tier):
    """Whether the fleet has a price card, and it names no price for the model at ``tier``."""
    model = view.models.get(model_name)
    return bool(view.prices) and (model is None or (model.size_class, tier) not in view.prices)


def too_dear(view, shape, tier):
    """Whether ``tier`` costs more than the deployment allows above the model's central price."""
    model, most = view.models.get(shape.deployment.model), shape.deployment.max_premium_percent
    if model is None or most == 0 or (model.size_class, Tier.CENTRAL) not in view.prices:
        return False
    central = rate_nano_usd_per_1k_tokens(view.prices[model.size_class, Tier.CENTRAL])
    price = view.prices.get((model.size_class, tier))
    rate = UNPRICED if price is None else rate_nano_usd_per_1k_tokens(price)
    return rate > central * (1.0 + most / 100.0)


def is_there(view, shape, node_id, state):
    """Whether what the deployment names is in the engine: by the node's report, else the table."""
    model, adapter = shape.deployment.model, shape.deployment.adapter
    if adapter and shape.embeds:
        return False
    if state.ready_models is not None:
        return (adapter or model) in state.ready_models
    base = view.replicas[model][node_id].state is ReplicaState.READY
    if not adapter:
        return base
    row = view.adapter_replicas.get(adapter, {}).get(node_id)
    return base and row is not None and row.state is ReplicaState.READY


def way_in(view, shape, node_id, state):
    """How it would get there: by the node's report, else by the table; None: it would not."""
    model, adapter = shape.deployment.model, shape.deployment.adapter
    if adapter and shape.embeds:
        return None
    if state.loadable is not None:
        return state.loadable.get(adapter or model)
    base = view.replicas[model][node_id]
    way = None
    if base.state is ReplicaState.COLD:
        shapes = {
            each.swap_key
            for each in view.models.values()
            for there in [view.replicas.get(each.name, {}).get(node_id)]
            if there is not None and there.state is ReplicaState.READY
        }
        key = view.models[model].swap_key if model in view.models else b""
        way = (ColdPath.SWAP if key and key in shapes else ColdPath.ENGINE, base.residency)
    if not adapter:
        return way
    row = view.adapter_replicas.get(adapter, {}).get(node_id)
    if row is None or row.state not in (ReplicaState.READY, ReplicaState.COLD):
        return None
    if base.state is ReplicaState.READY:
        return (ColdPath.ADAPTER, row.residency) if row.state is ReplicaState.COLD else None
    if way is None:
        return None
    order = list(Residency)
    return way[0], max(way[1], row.residency, key=order.index)


def load_ms(view, shape, node_id, state):
    """Median and P99 of the load that the request waits for, as assumed before any was seen."""
    if is_there(view, shape, node_id, state):
        return None
    way = ColdWay(*way_in(view, shape, node_id, state))
    adapter = view.adapters.get(shape.deployment.adapter)
    model = view.models.get(shape.deployment.model)
    weights = 0 if adapter is None else adapter.weights_bytes
    if way.path is not ColdPath.ADAPTER and model is not None:
        weights += model.weights_bytes
    term = LoadTerms().expect(node_id, way, weights)
    return term.p50_ms, term.p99_ms


def options(view, shape, self_node_id, live, excluded, learned):
    """Every replica that may serve, in the table's order."""
    model = shape.deployment.model
    return [
        option(view, shape, self_node_id, node_id, live[node_id], learned.get(node_id))
        for node_id in view.replicas.get(model, {})
        if may_serve(view, shape, node_id, live[node_id], excluded)
    ]


def option(view, shape, self_node_id, node_id, state, target):
    """Return the candidate of one replica that may serve."""
    replica = view.replicas[shape.deployment.model][node_id]
    profile, pop = replica.profile, view.pops[view.nodes[node_id].pop_id]
    rtt_ms, rtt_ms_p99 = round_trips(view, self_node_id, node_id, pop, state)
    network = network_to(rtt_ms, warm=state.warm, body_bytes=shape.body_bytes)
    tokens = (shape.expected_tokens or shape.prompt_tokens) * (1.0 - state.cached_ratio)
    there = state.in_flight + state.queued
    if target is not None and target.known:
        waiting = max(state.queued, there + 1 - profile.max_parallel)
        p50, p95, p99 = learned_ms(target, tokens, state, waiting)
        p50, p95, p99 = (network.total_ms + each for each in (p50, p95, p99))
        sooner = p99
        if (more := target.observations - FEW_OBSERVATIONS) < SETTLED_OUTCOMES:
            told = by_profile(profile, network, rtt_ms_p99, state, tokens).ttft_ms_p99
            factor = HANDOVER_FACTOR ** (more + 1)
            p99 = min(told * factor, max(told / factor, p99))
        p50 = min(p50, p99)
        p95 = min(p99, max(p50, p95))
        terms = learned_terms(target, network, tokens, state, waiting, sooner)
        scale = max(0.0, p99 - network.total_ms) / (sooner - network.total_ms or 1.0)
        for name in terms.keys() - {"rtt", "handshake", "transfer"}:
            terms[name] *= scale
    else:
        told = by_profile(profile, network, rtt_ms_p99, state, tokens)
        p50, p95, p99 = told.ttft_ms_p50, told.p95_ms, told.ttft_ms_p99
        terms = dict(told.terms())
    if (load := load_ms(view, shape, node_id, state)) is not None:
        p50, p95, p99 = p50 + load[0], p95 + load[1], p99 + load[1]
        terms["load"] = load[1]
    model = view.models.get(replica.model)
    price = None if model is None else view.prices.get((model.size_class, pop.tier))
    rate = UNPRICED if price is None else rate_nano_usd_per_1k_tokens(price)
    free = max(0, profile.max_parallel - there)
    terms = {name: value_ms for name, value_ms in terms.items() if value_ms}
    outcomes = 0 if target is None else target.observations
    outcomes = 0 if load is not None else outcomes
    proven = (
        node_id == self_node_id and load is None
    ) or outcomes >= FEW_OBSERVATIONS + SETTLED_OUTCOMES
    places, shown = profile.max_parallel, max(outcomes, state.answers)
    running = state.own_in_flight
    return Option(
        node_id, pop.tier, rate, p50, p95, p99, places, free, terms, proven, shown, running
    )


def by_profile(profile, network, rtt_ms_p99, state, tokens):
    """What the profile says, prompts ahead included."""
    return predict(
        profile,
        network,
        rtt_ms_p99=rtt_ms_p99,
        in_flight=state.in_flight,
        queued=state.queued,
        prompt_tokens=tokens,
        backlog_tokens=state.backlog_tokens,
        progress_ms=state.progress_ms,
    )


def learned_terms(target, network, tokens, state, waiting, p99):
    """The way, each coefficient by its feature, and the progress that makes up the rest.

    The coefficients are those of the regime that says most, of this one and all lighter ones.
    """
    features = (1.0, tokens / 1_000.0, state.in_flight, state.backlog_tokens / 1_000.0, waiting)
    lines = [regime.p99 for regime in regimes_of(target, state, waiting)]
    line = max(lines, key=lambda each: dot(each, features))
    terms = {"rtt": network.rtt_ms, "handshake": network.handshake_ms}
    terms["transfer"] = network.transfer_ms
    names = ("engine", "prefill", "batch", "backlog", "queue")
    terms |= {name: a * b for name, a, b in zip(names, line, features, strict=True)}
    if len(lines) == 2:
        terms["progress"] = min(0.0, p99 - sum(terms.values()))
    return terms


def regimes_of(target, state, waiting):
    """That of the load and all lighter ones."""
    free, behind, full = target.regimes
    if waiting > 0:
        return free, behind, full
    return (free, behind) if state.backlog_tokens else (free,)


def learned_ms(target, tokens, state, waiting):
    """Median, P95 and P99 at a target that there are outcomes of."""
    features = (1.0, tokens / 1_000.0, state.in_flight, state.backlog_tokens / 1_000.0, waiting)
    regimes, found = regimes_of(target, state, waiting), []
    for quantile in range(3):
        ms = [dot(regime.quantiles[quantile], features) for regime in regimes]
        if len(ms) == 2:
            ms[1] -= state.progress_ms
        found.append(max(ms))
    return found


def dot(line, features):
    return sum(a * b for a, b in zip(line, features, strict=True))


def round_trips(view, self_node_id, node_id, pop, state):
    """The round trip: measured, or estimated from the distance, or unknown."""
    if node_id == self_node_id:
        return 0.0, 0.0
    if state.rtt_ms_p50 is not None:
        return state.rtt_ms_p50, state.rtt_ms_p50 if state.rtt_ms_p99 is None else state.rtt_ms_p99
    own = view.nodes.get(self_node_id)
    here = None if own is None else view.pops.get(own.pop_id)
    if here is None:
        km = 20_000.0
    else:
        km = geo.great_circle_km(
            here.latitude_deg, here.longitude_deg, pop.latitude_deg, pop.longitude_deg
        )
    return geo.prior_rtt_ms_p50(km), geo.prior_rtt_ms_p99(km)


def choice(shape, found, draw, fill, ratio):
    """Choose from ``found``; None if no candidate fits a strict deployment's budget."""
    budget_ms = shape.budget_left_ms
    fitting = [each for each in found if each.p99_ms <= budget_ms]
    if not fitting:
        if shape.deployment.strict:
            return None

        def likely(each):
            return in_time_ratio(each.p50_ms, each.p95_ms, each.p99_ms, budget_ms), -each.p99_ms

        return max(found, key=likely)
    allowed = fitting
    if any(each.proven for each in fitting):
        allowed = [each for each in fitting if each.proven or each.running < 4 + each.shown]
    open_to = [each for each in allowed if is_open(each.free, each.places, shape)] or allowed
    spare = EDGE_SPARE_RATIO[shape.deployment.sla_tier]
    unfilled = [
        each
        for each in open_to
        if each.tier is Tier.EDGE
        and "load" not in each.terms
        and each.free > spare * each.places
        and ratio > 0.0
        and fill[each.node_id] < ratio
    ]
    pool = unfilled or open_to
    rate = min(each.rate for each in pool)
    cheapest = [each for each in pool if each.rate == rate]
    earliest_ms = min(each.p99_ms for each in cheapest)
    if known := [each for each in cheapest if each.proven]:
        earliest_ms = min(each.p99_ms for each in known)
    latest_ms = earliest_ms + max(NEAR_TIE_MS, NEAR_TIE_RATIO * earliest_ms)
    tied = [each for each in cheapest if each.p99_ms <= latest_ms]
    tickets = [
        each
        for each in tied
        for _ in range(each.free if each.proven or not known else min(each.free, 1 + each.shown))
    ] or tied
    return tickets[int(draw * len(tickets))]


def tiers(view, shape, found, chosen):
    """Which tier serves, and which is billed: the cheapest and then soonest of those in time."""
    fitting = [each for each in found if each.p99_ms <= shape.budget_left_ms]
    if fitting:
        return chosen.tier, min(fitting, key=lambda each: (each.rate, each.p99_ms)).tier
    model = view.models.get(shape.deployment.model)
    if model is None:  # it was removed while its replicas are still there
        return chosen.tier, chosen.tier
    default = DEFAULT_TIER[shape.deployment.sla_tier]
    prices = {
        tier: rate_nano_usd_per_1k_tokens(view.prices[model.size_class, tier])
        for tier in (chosen.tier, default)
        if (model.size_class, tier) in view.prices
    }
    return chosen.tier, min(prices, key=prices.__getitem__, default=chosen.tier)


def is_open(free, places, shape):
    """Whether one more request leaves the reserved places free, the first place excepted."""
    return free >= 1 and free - 1 >= KEPT_RATIO[shape.deployment.sla_tier] * (places - 1)
