"""Computes the offers of a model's replicas from a view, once for each view and model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.load_term import ColdPath, ColdWay
from protos.domain.offers import UNPRICED_NANO_USD_PER_1K_TOKENS, Filter, Offer, Offers
from protos.domain.pricing import rate_nano_usd_per_1k_tokens
from protos.domain.resources import NodeHealth, NodeIntent, ReplicaState, Residency, Tier

if TYPE_CHECKING:
    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import Pop, Price, Replica

#: Models whose offers a view keeps; the one kept for longest is dropped first.
MAX_REMEMBERED = 1_024

_HEALTH_FILTER = {NodeHealth.DEAD: Filter.DEAD, NodeHealth.UNROUTABLE: Filter.UNROUTABLE}
_INTENT_FILTER = {NodeIntent.DRAINING: Filter.DRAINING, NodeIntent.RETIRED: Filter.RETIRED}


def offers_of(view: FleetView, model: str, self_node_id: str, adapter: str = "") -> Offers:
    """Return the offers of ``model`` as ``self_node_id`` sees them. Hot: kept in the view.

    With ``adapter``: as a deployment with that adapter of the model sees them.
    """
    name = f"{model}+{adapter}" if adapter else model
    found = view.offers.get(name)
    if found is None or found.self_node_id != self_node_id:
        found = _compute(view, model, adapter, self_node_id)
        remembered = view.offers
        if len(remembered) >= MAX_REMEMBERED:
            del remembered[next(iter(remembered))]
        remembered[name] = found
    return found


def _compute(view: FleetView, model: str, adapter: str, self_node_id: str) -> Offers:
    rates = _rates_by_tier(view, model)
    # Without a card nothing is billed; with one, what it does not name must not be served free.
    unpriced = Filter.UNPRICED if view.prices else None
    self_node = view.nodes.get(self_node_id)
    here = None if self_node is None else view.pops.get(self_node.pop_id)
    of_adapter = view.adapter_replicas.get(adapter, {}) if adapter else {}
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
        is_ready, cold = replica.state is ReplicaState.READY, _cold_way(view, replica)
        if adapter:
            is_ready, cold = _of_adapter(of_adapter.get(node_id), cold, base_ready=is_ready)
        offers.append(
            Offer(
                node_id,
                node,
                pop,
                replica,
                price,
                rate,
                _HEALTH_FILTER.get(node.health)
                or _INTENT_FILTER.get(node.intent)
                or (unpriced if price is None else None),
                node_id == self_node_id,
                pop.zone,
                pop.tier is Tier.EDGE,
                is_ready,
                profile,
                profile.max_parallel,
                here,
                cold,
                node_id in of_adapter,
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
        rates[Tier.CENTRAL][1] if Tier.CENTRAL in rates else 0,
        known.weights_bytes if (known := view.models.get(model)) is not None else 0,
        loaded.weights_bytes if (loaded := view.adapters.get(adapter)) is not None else 0,
    )


def _cold_way(view: FleetView, replica: Replica) -> ColdWay | None:
    """Return how a cold replica's weights would get into an engine there, by the table.

    A running engine takes the weights of a model with the same swap key; else one is started.
    """
    if replica.state is not ReplicaState.COLD:
        return None
    model = view.models.get(replica.model)
    path = ColdPath.ENGINE
    if model is not None and model.swap_key:
        for other in view.models.values():
            there = view.replicas.get(other.name, {}).get(replica.node_id)
            is_ready = there is not None and there.state is ReplicaState.READY
            if is_ready and other.swap_key == model.swap_key:
                path = ColdPath.SWAP
                break
    return ColdWay(path, replica.residency)


def _of_adapter(
    adapter: Replica | None, base_cold: ColdWay | None, *, base_ready: bool
) -> tuple[bool, ColdWay | None]:
    """Return whether an adapter is in the engine of its base at a node, and else how it gets there.

    Where the base is cold too, the load is the base's, from the farther of the two places.
    """
    if adapter is None or adapter.state not in (ReplicaState.READY, ReplicaState.COLD):
        return False, None
    if base_ready:
        if adapter.state is ReplicaState.READY:
            return True, None
        return False, ColdWay(ColdPath.ADAPTER, adapter.residency)
    if base_cold is None:
        return False, None
    return False, ColdWay(base_cold.path, max(base_cold.residency, adapter.residency, key=_FARTHER))


#: Places of weights in the order of their distance.
_FARTHER = list(Residency).index


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
