"""The five sites' round trips."""

from __future__ import annotations

from itertools import permutations

import pytest

from coordinator.devfleet.distances import is_fitted, round_trip_ms
from coordinator.devfleet.sites import BOM, DXB, FIVE_SITES, GRU, IAD, LAG
from protos.domain.resources import Pop, Tier

POPS = [site.pop for site in FIVE_SITES]


@pytest.mark.parametrize(("source", "destination"), list(permutations(POPS, 2)))
def test_every_pair_has_a_distance_nearly_the_same_both_ways(source: Pop, destination: Pop) -> None:
    forth, back = round_trip_ms(source, destination), round_trip_ms(destination, source)
    assert forth > 0.0
    assert abs(forth - back) <= 2.0
    assert is_fitted(source, destination) == (LAG in (source, destination))


def test_measured_round_trips_are_used_unchanged() -> None:
    assert round_trip_ms(GRU, IAD) == 119.0
    assert round_trip_ms(IAD, GRU) == 117.0
    assert round_trip_ms(BOM, DXB) == 40.0


def test_round_trips_of_lagos_follow_from_distance() -> None:
    # 5,950 km to Dubai, 6,240 km to São Paulo, 8,650 km to Virginia.
    assert 100 < round_trip_ms(LAG, DXB) < round_trip_ms(LAG, GRU) < round_trip_ms(LAG, IAD) < 150


def test_every_tier_has_a_place_for_an_engine() -> None:
    assert [site.pop.tier for site in FIVE_SITES[:3]] == [Tier.CENTRAL, Tier.EDGE, Tier.REGIONAL]
