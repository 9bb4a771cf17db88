"""Each level can only narrow the zones; a place that is not known is in none of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.domain.customers import Account, ApiKey
from protos.domain.fleet_view import FleetView
from protos.domain.residency import (
    allowed_zones,
    bound_zones,
    is_inside,
    is_pinned,
    may_leave,
    recorded_zones,
    zone_of,
    zone_of_pop,
)
from tests.support.fleets import deployment

ACCOUNT = Account("acme")
KEY = ApiKey("k1", b"d" * 32, "acme", (), 0)
NAMES = ("BR", "EU", "US")
some_zones = st.lists(st.sampled_from(NAMES), unique=True).map(tuple)


@pytest.mark.parametrize(
    ("deployment", "narrowed", "allowed"),
    [
        ((), None, None),
        (("BR",), None, {"BR"}),
        ((), {"BR"}, {"BR"}),
        (("BR", "EU"), {"BR"}, {"BR"}),
        (("BR",), {"BR", "US"}, {"BR"}),
        (("BR",), {"US"}, set()),
        ((), set(), set()),
    ],
)
def test_what_both_allow(deployment, narrowed, allowed):
    narrowed = None if narrowed is None else frozenset(narrowed)
    assert allowed_zones(deployment, narrowed) == allowed


@given(some_zones, some_zones, some_zones, st.none() | some_zones.map(frozenset))
def test_a_request_is_bound_by_every_level_that_has_zones(account, key, deployed, header):
    account_row, key_row = replace(ACCOUNT, zones=account), replace(KEY, zones=key)
    row = replace(deployment(), residency_zones=deployed)
    bound = bound_zones(account_row, key_row, row, header)
    levels = [set(one) for one in (account, key, deployed) if one]
    levels += [] if header is None else [set(header)]
    for zone in NAMES:
        assert is_inside(zone, bound) is all(zone in level for level in levels)
    assert (bound is None) is (not levels)
    # before the body is read the deployment is not known: never narrower than with it
    by_head = bound_zones(account_row, key_row, None, header)
    assert all(is_inside(zone, by_head) for zone in NAMES if is_inside(zone, bound))


def test_the_header_alone_is_not_a_pin():
    row = replace(deployment(), residency_zones=())
    assert not is_pinned(ACCOUNT, KEY, row)
    assert is_pinned(replace(ACCOUNT, zones=("BR",)), KEY, row)
    assert is_pinned(ACCOUNT, replace(KEY, zones=("BR",)), row)
    assert is_pinned(ACCOUNT, KEY, replace(row, residency_zones=("BR",)))


def test_zones_are_recorded_in_order_and_leave_only_for_one_of_them():
    assert recorded_zones(None) == ()
    assert recorded_zones(frozenset({"US", "BR"})) == ("BR", "US")
    assert may_leave((), "")
    assert may_leave((), "JP")
    assert may_leave(("BR", "US"), "US")
    assert not may_leave(("BR",), "US")
    assert not may_leave(("BR",), "")  # a coordinator whose zone is not said


def test_what_the_table_does_not_know_is_in_no_zone():
    assert zone_of(FleetView(), "gru-1") == ""
    assert zone_of_pop({}, "GRU") == ""
    assert not is_inside("", frozenset({"BR"}))
    assert is_inside("", None)
