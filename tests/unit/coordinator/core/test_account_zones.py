"""Zones of an account narrow its keys and deployments, and never widen them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.account_zones import (
    MAX_ZONES,
    check_key_zones,
    checked_zones,
    narrowed,
    narrowed_rollout,
    nowhere,
    within_account,
)
from coordinator.core.rollout import Rollout, RolloutPhase
from protos.domain.customers import ApiKey
from protos.domain.errors import Conflict, InvalidRequest
from tests.support.fleets import deployment

KEY = ApiKey("k1", b"d" * 32, "acme", (), 0)
ZONES = ("BR", "EU", "JP", "US")
some = st.lists(st.sampled_from(ZONES), unique=True).map(lambda found: tuple(sorted(found)))


def test_zones_are_kept_once_and_in_order():
    assert checked_zones(["US", "BR", "US"]) == ("BR", "US")


@pytest.mark.parametrize("zones", [["br"], ["BRA"], [""]])
def test_what_is_no_zone_is_refused(zones):
    with pytest.raises(InvalidRequest):
        checked_zones(zones)


def test_too_many_zones_are_refused():
    many = [chr(65 + n // 26) + chr(65 + n % 26) for n in range(MAX_ZONES + 1)]
    with pytest.raises(InvalidRequest, match="more than"):
        checked_zones(many)


def test_a_deployment_without_zones_takes_those_of_its_account():
    assert within_account(("US", "BR"), deployment()).residency_zones == ("BR", "US")
    assert within_account((), deployment()).residency_zones == ()
    assert within_account(("BR", "US"), deployment(zones=("BR",))).residency_zones == ("BR",)


@pytest.mark.parametrize("zones", [("US",), ("BR", "US")])
def test_a_deployment_may_not_name_a_zone_that_its_account_lacks(zones):
    with pytest.raises(InvalidRequest, match="bound to BR") as caught:
        within_account(("BR",), deployment(zones=zones))
    assert "US" in caught.value.message
    assert caught.value.hint


def test_a_key_may_not_name_a_zone_that_its_account_lacks():
    assert check_key_zones(("BR", "EU"), replace(KEY, zones=("BR",))).account_zones == ("BR", "EU")
    assert check_key_zones((), replace(KEY, zones=("BR",))).account_zones == ()
    with pytest.raises(InvalidRequest, match="used in US"):
        check_key_zones(("BR",), replace(KEY, zones=("BR", "US")))


@given(some, some, some)
def test_narrowing_twice_is_never_wider_than_narrowing_once(own, first, second):
    was = deployment(zones=own)
    once = narrowed(first, was)
    if once is None:
        assert first
        assert not set(own) & set(first)
        return
    allowed = set(own or ZONES) & set(first or ZONES)
    assert set(once.residency_zones or ZONES) == allowed
    twice = narrowed(second, once)
    assert twice is None or set(twice.residency_zones or ZONES) <= allowed


def test_a_rollout_is_narrowed_with_its_deployment():
    preparing = Rollout(RolloutPhase.PREPARING, deployment(), "ana", "update", 0)
    narrow = narrowed_rollout(("BR",), preparing)
    assert narrow is not None
    assert narrow.other.residency_zones == ("BR",)


def test_a_next_version_without_a_zone_left_is_refused_and_a_last_one_is_let_go():
    abroad = Rollout(RolloutPhase.PREPARING, deployment(zones=("US",)), "ana", "update", 0)
    with pytest.raises(Conflict, match="next version"):
        narrowed_rollout(("BR",), abroad)
    assert narrowed_rollout(("BR",), replace(abroad, phase=RolloutPhase.SETTLING)) is None


def test_a_refusal_names_what_would_have_no_zone_left():
    error = nowhere(("BR",), [f"key k{number}" for number in range(9)])
    assert "key k0" in error.message
    assert "and 4 more" in error.message
    assert not error.retryable
