"""What the replicas of a model offer before any request is looked at.

Where each stands, what it costs and what bars it follow from the view alone, and views are never
changed, so it is found out once for each view and model.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain import geo
from protos.domain.pricing import rate_nano_usd_per_1k_tokens
from protos.domain.resources import NodeHealth, NodeIntent, ReplicaState, Tier

if TYPE_CHECKING:
    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import EngineProfile, Node, Pop, Price, Replica

#: Models whose offers a view remembers; the one remembered for longest is forgotten first.
MAX_REMEMBERED = 1_024
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


_HEALTH_FILTER = {NodeHealth.DEAD: Filter.DEAD, NodeHealth.UNROUTABLE: Filter.UNROUTABLE}
_INTENT_FILTER = {NodeIntent.DRAINING: Filter.DRAINING, NodeIntent.RETIRED: Filter.RETIRED}


@dataclass(slots=True, eq=False)
class Offer:
    """One replica at its node. Written once; not frozen since frozen ones are slow to make.

    ``rate_nano_usd_per_1k_tokens`` is for 1,000 prompt tokens and 1,000 completion tokens.
    ``barred`` by its node's health or intent.
    """

    node_id: str
    node: Node
    pop: Pop
    replica: Replica
    price: Price | None
    rate_nano_usd_per_1k_tokens: int
    barred: Filter | None
    is_own: bool
    # copies of what lies one step further, for those who look at every replica of every request
    zone: str
    is_edge: bool
    is_ready: bool
    profile: EngineProfile
    max_parallel: int
    _here: Pop | None
    _prior_rtts_ms: tuple[float, float] | None = None

    def prior_rtts_ms(self) -> tuple[float, float]:
        """Return median and P99 of the round trip to expect until one was measured."""
        rtts_ms = self._prior_rtts_ms
        if rtts_ms is None:
            distance_km = _distance_km(self._here, self.pop)
            rtts_ms = geo.prior_rtt_ms_p50(distance_km), geo.prior_rtt_ms_p99(distance_km)
            self._prior_rtts_ms = rtts_ms
        return rtts_ms


@dataclass(frozen=True, slots=True)
class Offers:
    """All replicas of one model, as one node sees them.

    ``generating`` and ``embedding`` are those that their nodes do not bar, by what they do;
    ``homeless`` are in no known POP.
    """

    self_node_id: str
    offers: tuple[Offer, ...]
    generating: tuple[Offer, ...]
    embedding: tuple[Offer, ...]
    homeless: tuple[tuple[str, Replica, Pop | None], ...]


def offers_of(view: FleetView, model: str, self_node_id: str) -> Offers:
    """Return what the replicas of ``model`` offer to ``self_node_id``. Hot: found out once."""
    found = view.offers.get(model)
    if found is None or found.self_node_id != self_node_id:
        found = _find_out(view, model, self_node_id)
        remembered = view.offers
        if len(remembered) >= MAX_REMEMBERED:
            del remembered[next(iter(remembered))]
        remembered[model] = found
    return found


def _find_out(view: FleetView, model: str, self_node_id: str) -> Offers:
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


def _distance_km(here: Pop | None, there: Pop) -> float:
    if here is None:
        return _FARTHEST_KM
    return geo.great_circle_km(
        here.latitude_deg, here.longitude_deg, there.latitude_deg, there.longitude_deg
    )
