"""The refusal of what may not be read here, and the addresses that it names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protos.domain.errors import Misdirected
from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.in_zone import MAX_ADDRESSES, addresses, check_inside, misdirected
from protos.domain.resources import NodeHealth, NodeIntent, Pop, Tier
from tests.support.fleets import node, view

#: Degrees north and east; IAD is nearer to GRU than to MEL.
PLACES = {"IAD": ("US", 39, -77), "GRU": ("BR", -23, -46), "REC": ("BR", -8, -35)}


def site(pop_id: str) -> Pop:
    zone, north, east = PLACES[pop_id]
    return Pop(pop_id, Tier.EDGE, zone, pop_id, float(north), float(east))


def at(node_id: str, pop_id: str, **changes):
    return replace(node(node_id, pop_id), client_url=f"https://{node_id}", **changes)


FLEET = view(
    *map(site, PLACES),
    at("iad-1", "IAD"),
    at("gru-1", "GRU"),
    at("gru-2", "GRU"),
    at("rec-1", "REC"),
)


def test_inside_and_unbound_nothing_is_refused():
    check_inside(FLEET, "iad-1", None)
    check_inside(FLEET, "iad-1", frozenset({"US", "BR"}))


def test_the_refusal_names_the_zones_and_the_nearest_address_of_each_site_first():
    with pytest.raises(Misdirected) as caught:
        check_inside(FLEET, "iad-1", frozenset({"BR"}))
    error = caught.value
    assert error.in_zone == ("https://rec-1", "https://gru-1", "https://gru-2")
    assert "only be read in BR" in error.message
    assert "https://rec-1" in error.hint
    assert not error.retryable
    assert len(error.in_zone) <= MAX_ADDRESSES


@pytest.mark.parametrize(
    "changed",
    [
        {"health": NodeHealth.DEAD},
        {"health": NodeHealth.UNROUTABLE},
        {"intent": NodeIntent.DRAINING},
        {"intent": NodeIntent.RETIRED},
    ],
    ids=str,
)
def test_a_node_that_takes_no_requests_is_not_named(changed):
    table = with_changes(FLEET, (), [at("rec-1", "REC", **changed)])
    assert "https://rec-1" not in addresses(table, "iad-1", frozenset({"BR"}))


def test_without_an_agent_in_the_zone_it_says_so_and_may_be_sent_again():
    error = misdirected(FLEET, "iad-1", frozenset({"JP"}))
    assert error.in_zone == ()
    assert error.retryable
    assert "no agent in JP" in error.hint


def test_an_agent_that_does_not_know_its_own_zone_reads_nothing_that_is_bound():
    with pytest.raises(Misdirected, match="an unknown zone"):
        check_inside(FleetView(), "iad-1", frozenset({"US"}))


def test_zones_without_one_in_common_are_nowhere():
    with pytest.raises(Misdirected, match="nowhere"):
        check_inside(FLEET, "gru-1", frozenset())
