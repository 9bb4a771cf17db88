"""A replica that is left out fails one filter, and the first of several is named."""

from __future__ import annotations

from dataclasses import replace

from protos.domain.load_term import ColdPath, ColdWay
from protos.domain.offer_lookup import offers_of
from protos.domain.offers import Filter
from protos.domain.rejections import cold_way, is_too_dear, rejections
from protos.domain.resources import ReplicaState, Residency, Tier
from tests.support.fleets import (
    MODEL,
    deployment,
    lookup,
    model,
    node,
    pop,
    price,
    replica,
    request,
    target,
    view,
)

FLEET = view(
    pop("IAD", Tier.CENTRAL),
    node("iad-1", "IAD"),
    model(),
    price(Tier.CENTRAL, 10),
    replica("iad-1", state=ReplicaState.COLD),
)
OFFERS = offers_of(FLEET, MODEL, "iad-1")
WAY = ColdWay(ColdPath.SWAP, Residency.PEER)


def test_what_a_node_reports_to_load_overrides_the_table():
    (offer,) = OFFERS.offers
    assert cold_way(offer, target(), MODEL) == ColdWay(ColdPath.ENGINE, Residency.DEVICE)
    assert cold_way(offer, replace(target(), loadable={MODEL: WAY}), MODEL) == WAY
    assert cold_way(offer, replace(target(), loadable={}), MODEL) is None


def test_central_is_never_too_dear():
    (offer,) = OFFERS.offers
    assert not is_too_dear(offer, OFFERS, request(replace(deployment(), max_premium_percent=1)))


def test_a_tier_without_a_price_is_over_every_limit():
    (offer,) = OFFERS.offers
    unpriced = replace(offer, rate_nano_usd_per_1k_tokens=1 << 62)
    limited = request(replace(deployment(), max_premium_percent=900))
    assert is_too_dear(unpriced, OFFERS, limited)
    assert not is_too_dear(unpriced, OFFERS, request())


def test_those_that_passed_are_not_listed_and_others_have_a_filter():
    live = lookup({"iad-1": target(ejected=True)})
    assert rejections(OFFERS, request(), None, live, {"iad-1"}) == []
    (line,) = rejections(OFFERS, request(), None, live, set())
    assert line.filter is Filter.EJECTED
    (line,) = rejections(OFFERS, request(), frozenset({"EU"}), live, set())
    assert line.filter is Filter.RESIDENCY
