"""Builders of small fleets for decisions, with defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.resources import (
    Deployment,
    EngineProfile,
    Model,
    ModelSource,
    Node,
    NodeHealth,
    NodeIntent,
    Pop,
    Price,
    Replica,
    ReplicaState,
    Resource,
    SlaTier,
    Tier,
)
from protos.domain.router import UNKNOWN_TARGET, RequestShape, TargetLookup, TargetState

MODEL = "acme/small@1"


def pop(
    pop_id: str,
    tier: Tier = Tier.EDGE,
    zone: str = "US",
    *,
    at: tuple[float, float] = (0.0, 0.0),
):
    return Pop(pop_id, tier, zone, pop_id.title(), *at)


def node(
    node_id: str,
    pop_id: str,
    health: NodeHealth = NodeHealth.READY,
    intent: NodeIntent = NodeIntent.ACTIVE,
):
    url = f"http://{node_id}.test:8080"
    return Node(node_id, pop_id, f"{node_id}.test", 7443, url, health, intent)


def model(name: str = MODEL, *, size_class: str = "xs", context_tokens: int = 8_192):
    return Model(
        name, ModelSource.MANAGED, "llama", size_class, context_tokens, 270_000_000, b"m" * 32
    )


def profile(
    first_token_ms_p99: float = 40.0,
    *,
    prefill_ms_per_token: float = 0.0,
    max_parallel: int = 4,
    tokens_per_s: float = 400.0,
):
    return EngineProfile(first_token_ms_p99, prefill_ms_per_token, max_parallel, tokens_per_s)


def replica(
    node_id: str,
    first_token_ms_p99: float = 40.0,
    *,
    model: str = MODEL,
    state: ReplicaState = ReplicaState.READY,
    max_parallel: int = 4,
    generation: int = 1,
):
    speed = profile(first_token_ms_p99, max_parallel=max_parallel)
    return Replica(node_id, model, state, speed, generation)


def price(tier: Tier, nano_usd_per_token: int, *, size_class: str = "xs"):
    return Price(size_class, tier, nano_usd_per_token, 0, nano_usd_per_token, 1)


def deployment(
    name: str = "small",
    *,
    model: str = MODEL,
    adapter: str = "",
    ttft_budget_ms: int = 150,
    sla_tier: SlaTier = SlaTier.STANDARD,
    zones: tuple[str, ...] = (),
    strict: bool = False,
    pins: frozenset[str] | None = None,
):
    return Deployment(
        name, "acme", model, adapter, ttft_budget_ms, sla_tier, zones, strict, pins=pins
    )


def request(
    of: Deployment | None = None,
    *,
    budget_left_ms: float = 150.0,
    prompt_tokens: int = 10,
    body_bytes: int = 500,
    narrowed_zones: frozenset[str] | None = None,
):
    return RequestShape(
        of or deployment(), prompt_tokens, body_bytes, True, budget_left_ms, narrowed_zones
    )


def view(*resources: Resource) -> FleetView:
    return with_changes(FleetView(), (), resources)


def target(
    rtt_ms: float | None = 0.0,
    *,
    in_flight: int = 0,
    queued: int = 0,
    warm: bool = True,
    ejected: bool = False,
    ready_models: Iterable[str] | None = None,
):
    ready = None if ready_models is None else frozenset(ready_models)
    return TargetState(rtt_ms, rtt_ms, in_flight, queued, warm, ejected, ready)


def lookup(targets: Mapping[str, TargetState], default: TargetState | None = None) -> TargetLookup:
    """Look targets up by node; other nodes are ``default``, or unknown."""
    return lambda node_id: targets.get(node_id, default or UNKNOWN_TARGET)


def three_tiers(edge_ms: float = 96.0, regional_ms: float = 141.0, central_ms: float = 205.0):
    """Edge, regional and central, at prices 12, 11 and 10, with the given idle predictions."""
    return view(
        pop("GRU", Tier.EDGE),
        pop("SCL", Tier.REGIONAL),
        pop("IAD", Tier.CENTRAL),
        node("gru-1", "GRU"),
        node("scl-1", "SCL"),
        node("iad-1", "IAD"),
        model(),
        deployment(),
        replica("gru-1", edge_ms),
        replica("scl-1", regional_ms),
        replica("iad-1", central_ms),
        price(Tier.EDGE, 12),
        price(Tier.REGIONAL, 11),
        price(Tier.CENTRAL, 10),
    )
