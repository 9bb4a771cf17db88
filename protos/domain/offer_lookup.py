"""Computes the offers of a model's replicas from a view, once for each view and model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.offers import UNPRICED_NANO_USD_PER_1K_TOKENS, Filter, Offer, Offers
from protos.domain.pricing import rate_nano_usd_per_1k_tokens
from protos.domain.resources import NodeHealth, NodeIntent, ReplicaState, Tier

if TYPE_CHECKING:
    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import Pop, Price, Replica

#: Models whose offers a view keeps; the one kept for longest is dropped first.
MAX_REMEMBERED = 1_024

_HEALTH_FILTER = {NodeHealth.DEAD: Filter.DEAD, NodeHealth.UNROUTABLE: Filter.UNROUTABLE}
_INTENT_FILTER = {NodeIntent.DRAINING: Filter.DRAINING, NodeIntent.RETIRED: Filter.RETIRED}


def offers_of(view: FleetView, model: str, self_node_id: str) -> Offers:
    """Return the offers of ``model`` as ``self_node_id`` sees them. Hot: kept in the view."""
    found = view.offers.get(model)
    if found is None or found.self_node_id != self_node_id:
        found = _compute(view, model, self_node_id)
        remembered = view.offers
        if len(remembered) >= MAX_REMEMBERED:
            del remembered[next(iter(remembered))]
        remembered[model] = found
    return found


def _compute(view: FleetView, model: str, self_node_id: str) -> Offers:
    rates = _rates_by_tier(view, model)
    self_node = view.nodes.get(self_node_id)
    here = None if self_node is None else view.pops.get(self_node.pop_id)
    offers: list[Offer] = []
    homeless: list[tuple[str, Replica, Pop | None]] = []
    for node_id, replica in view.replicas.get(model, {}).items():
        node = view.nodes.get(node_id)
        pop = None if node is None else view.pops.get(node.pop_id)
        if node is None or pop is None:
            homeless.append((node_id, replica, pop))
            continue
        price, rate = rates.get(pop.tier) or (None, UNPRICED_NANO_USD_PER_1K_TOKENS)
        profile = replica.profile
        offers.append(
            Offer(
                node_id,
                node,
                pop,
                replica,
                price,
                rate,
                _HEALTH_FILTER.get(node.health) or _INTENT_FILTER.get(node.intent),
                node_id == self_node_id,
                pop.zone,
                pop.tier is Tier.EDGE,
                replica.state is ReplicaState.READY,
                profile,
                profile.max_parallel,
                here,
            )
        )
    able = [offer for offer in offers if offer.barred is None]
    return Offers(
        self_node_id,
        tuple(offers),
        tuple(offer for offer in able if not offer.profile.embeds),
        tuple(offer for offer in able if offer.profile.embeds),
        tuple(homeless),
        min((limit for offer in able if (limit := offer.profile.context_tokens) > 0), default=0),
    )


def _rates_by_tier(view: FleetView, model_name: str) -> dict[Tier, tuple[Price, int]]:
    model = view.models.get(model_name)
    if model is None:
        return {}
    rates: dict[Tier, tuple[Price, int]] = {}
    for tier in Tier:
        price = view.prices.get((model.size_class, tier))
        if price is not None:
            rates[tier] = (price, rate_nano_usd_per_1k_tokens(price))
    return rates
