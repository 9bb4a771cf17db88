"""Offers are computed from a view once."""

from __future__ import annotations

from protos.domain import geo
from protos.domain.fleet_view import with_changes
from protos.domain.offer_lookup import MAX_REMEMBERED, offers_of
from protos.domain.offers import UNPRICED_NANO_USD_PER_1K_TOKENS, Filter
from protos.domain.resources import NodeHealth, NodeIntent, ReplicaState, Tier
from tests.support.fleets import MODEL, model, node, pop, price, replica, three_tiers, view


def test_an_offer_is_a_replica_with_its_place_and_price():
    offers = {each.node_id: each for each in offers_of(three_tiers(), MODEL, "gru-1").offers}
    edge, central = offers["gru-1"], offers["iad-1"]
    assert (edge.is_own, edge.is_edge, edge.zone) == (True, True, "US")
    assert (central.is_own, central.is_edge) == (False, False)
    assert central.rate_nano_usd_per_1k_tokens == 20_000
    assert central.price == price(Tier.CENTRAL, 10)
    assert central.max_parallel == central.replica.profile.max_parallel


def test_offers_are_computed_once_for_each_view():
    fleet = three_tiers()
    first = offers_of(fleet, MODEL, "gru-1")
    assert offers_of(fleet, MODEL, "gru-1") is first
    changed = with_changes(fleet, (), [node("gru-1", "GRU", NodeHealth.DEAD)])
    assert changed.offers == {}
    assert offers_of(changed, MODEL, "gru-1").offers[0].barred is Filter.DEAD
    assert offers_of(fleet, MODEL, "gru-1").offers[0].barred is None


def test_another_node_sees_other_distances():
    sao_paulo, virginia = (-23.55, -46.63), (38.95, -77.45)
    fleet = view(
        pop("GRU", at=sao_paulo), pop("IAD", at=virginia),
        node("gru-1", "GRU"), node("iad-1", "IAD"), model(), replica("iad-1"),
    )  # fmt: skip
    (from_gru,), (from_iad,) = (offers_of(fleet, MODEL, via).offers for via in ("gru-1", "iad-1"))
    km = geo.great_circle_km(*sao_paulo, *virginia)
    assert from_gru.prior_rtts_ms() == (geo.prior_rtt_ms_p50(km), geo.prior_rtt_ms_p99(km))
    assert from_iad.prior_rtts_ms()[0] < 1.0


def test_barred_homeless_and_unpriced_replicas_are_distinguished():
    fleet = view(
        pop("IAD"), model(), node("iad-1", "IAD", intent=NodeIntent.RETIRED),
        node("iad-2", "IAD"), node("gru-1", "GRU"),
        replica("iad-1"), replica("iad-2", state=ReplicaState.STARTING),
        replica("gru-1"), replica("lost-1"),
    )  # fmt: skip
    found = offers_of(fleet, MODEL, "iad-1")
    assert [each.barred for each in found.offers] == [Filter.RETIRED, None]
    assert [each.node_id for each in found.generating] == ["iad-2"]
    assert not found.generating[0].is_ready, "which its own agent may know better"
    assert found.generating[0].rate_nano_usd_per_1k_tokens == UNPRICED_NANO_USD_PER_1K_TOKENS
    assert found.embedding == ()
    assert [node_id for node_id, _, _ in found.homeless] == ["gru-1", "lost-1"]


def test_a_view_keeps_a_bounded_number_of_models_and_drops_the_oldest():
    fleet = three_tiers()
    for number in range(MAX_REMEMBERED + 1):
        offers_of(fleet, f"acme/m-{number}@1", "gru-1")
    assert len(fleet.offers) == MAX_REMEMBERED
    assert "acme/m-0@1" not in fleet.offers
