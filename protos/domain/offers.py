"""A model's replicas with what does not depend on the request: place, price, node state.

``offer_lookup`` computes them from a view; ``candidates`` filters them for a request.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain import geo

if TYPE_CHECKING:
    from protos.domain.load_term import ColdWay
    from protos.domain.resources import EngineProfile, Node, Pop, Price, Replica

#: Rate of every target while the fleet has no price card at all.
UNPRICED_NANO_USD_PER_1K_TOKENS = 1 << 62
#: Distance assumed while this node's own POP is unknown: half way round the earth.
_FARTHEST_KM = 20_000.0


class Filter(enum.StrEnum):
    """A hard filter; its value is the wording in the client's error when no replica is left."""

    TOPOLOGY = "not in the topology"
    MODE = "of the other kind"
    TOOLS = "without a parser of tool calls"
    CONTEXT = "with a shorter context than the prompt"
    RESIDENCY = "outside the allowed zones"
    PINS = "on a node that the deployment is not pinned to"
    DEAD = "dead"
    UNROUTABLE = "unroutable"
    DRAINING = "draining"
    RETIRED = "retired"
    NOT_READY = "not ready"
    UNPRICED = "without a price on the card"
    ADAPTER = "without the adapter"
    PREMIUM = "dearer than the deployment's limit above central"
    EJECTED = "left alone after failures"
    TRIED = "tried already"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A replica that a hard filter removed, and which filter it was."""

    node_id: str
    replica: Replica
    pop: Pop | None
    filter: Filter


@dataclass(slots=True, eq=False)
class Offer:
    """One replica at its node. Never changed, but not frozen: frozen dataclasses are slow to make.

    ``rate_nano_usd_per_1k_tokens`` is for 1,000 prompt tokens and 1,000 completion tokens.
    ``barred`` is the filter that its node's health or intent fails, None if it fails none.
    ``is_ready``: what the deployment names is in the engine there, by the table; ``cold``: how it
    would get there, None if the table does not say so.
    """

    node_id: str
    node: Node
    pop: Pop
    replica: Replica
    price: Price | None
    rate_nano_usd_per_1k_tokens: int
    barred: Filter | None
    is_own: bool
    # copies of nested attributes: the hot loop reads them for every replica of every request
    zone: str
    is_edge: bool
    is_ready: bool
    profile: EngineProfile
    max_parallel: int
    _here: Pop | None
    cold: ColdWay | None = None
    #: Whether the table has a row of the deployment's adapter there.
    has_adapter: bool = False
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
    """All replicas of one model, or of one adapter's base, as one node sees them.

    ``generating`` and ``embedding`` are those that are not barred, by the kind of engine;
    ``homeless`` are on an unknown node or in an unknown POP. ``shortest_context_tokens`` is 0 where
    every engine has the model's own context. ``central_rate_nano_usd_per_1k_tokens`` is the model's
    rate in central POPs, 0 where the price card has none.
    """

    self_node_id: str
    offers: tuple[Offer, ...]
    generating: tuple[Offer, ...]
    embedding: tuple[Offer, ...]
    homeless: tuple[tuple[str, Replica, Pop | None], ...]
    shortest_context_tokens: int
    central_rate_nano_usd_per_1k_tokens: int = 0
    model_bytes: int = 0
    adapter_bytes: int = 0


def _distance_km(here: Pop | None, there: Pop) -> float:
    if here is None:
        return _FARTHEST_KM
    return geo.great_circle_km(
        here.latitude_deg, here.longitude_deg, there.latitude_deg, there.longitude_deg
    )
