"""The expected round trip before one was measured."""

from __future__ import annotations

from protos.domain import geo
from protos.domain.offer_lookup import offers_of
from tests.support.fleets import MODEL, model, node, pop, replica, view

HALF_WAY_ROUND_THE_EARTH_KM = 20_000.0


def test_the_round_trip_follows_from_the_distance():
    sao_paulo, virginia = (-23.55, -46.63), (38.95, -77.45)
    fleet = view(
        pop("GRU", at=sao_paulo), pop("IAD", at=virginia),
        node("gru-1", "GRU"), node("iad-1", "IAD"), model(), replica("iad-1"),
    )  # fmt: skip
    (offer,) = offers_of(fleet, MODEL, "gru-1").offers
    km = geo.great_circle_km(*sao_paulo, *virginia)
    assert offer.prior_rtts_ms() == (geo.prior_rtt_ms_p50(km), geo.prior_rtt_ms_p99(km))


def test_a_node_whose_own_pop_is_unknown_expects_the_longest_round_trip():
    fleet = view(pop("IAD"), node("iad-1", "IAD"), model(), replica("iad-1"))
    (offer,) = offers_of(fleet, MODEL, "not-in-the-table-yet").offers
    km = HALF_WAY_ROUND_THE_EARTH_KM
    assert offer.prior_rtts_ms() == (geo.prior_rtt_ms_p50(km), geo.prior_rtt_ms_p99(km))


def test_the_round_trip_is_computed_once():
    fleet = view(
        pop("IAD"),
        pop("GRU"),
        node("iad-1", "IAD"),
        node("gru-1", "GRU"),
        model(),
        replica("iad-1"),
    )
    (offer,) = offers_of(fleet, MODEL, "gru-1").offers
    first = offer.prior_rtts_ms()
    object.__setattr__(offer.pop, "latitude_deg", 45.0)
    assert offer.prior_rtts_ms() == first
