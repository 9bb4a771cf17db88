"""A node may hold only what a deployment may be served from there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protos.domain.holding import is_outside, may_hold, names_held, names_outside
from protos.domain.resources import NextVersion, NodeIntent
from tests.support.fleets import deployment, node, pop, view

DEPLOYED = replace(deployment(), adapter="acme/fr@1", residency_zones=("US",))


def world(*, asked=DEPLOYED, intent=NodeIntent.ACTIVE):
    here = replace(node("iad-1", "IAD"), intent=intent)
    return view(pop("IAD"), here, asked)


@pytest.mark.parametrize("name", [DEPLOYED.model, "acme/fr@1"])
def test_what_a_deployment_names_may_be_held_where_it_may_be_served(name):
    assert may_hold(world(), "iad-1", name)


@pytest.mark.parametrize(
    "asked",
    [
        replace(DEPLOYED, residency_zones=("BR",)),
        replace(DEPLOYED, pins=frozenset({"gru-1"})),
        replace(DEPLOYED, pins=frozenset()),
    ],
)
def test_a_node_outside_its_zones_or_pins_may_not_hold_it(asked):
    assert not may_hold(world(asked=asked), "iad-1", asked.model)


def test_what_no_deployment_names_may_be_held_nowhere():
    assert not may_hold(world(), "iad-1", "acme/other@1")


def test_a_strange_or_retired_node_may_hold_nothing():
    assert not may_hold(world(), "nowhere-1", DEPLOYED.model)
    assert not may_hold(world(intent=NodeIntent.RETIRED), "iad-1", DEPLOYED.model)


def test_an_empty_name_is_held_nowhere_though_a_deployment_has_no_adapter():
    assert not may_hold(world(asked=replace(DEPLOYED, adapter="")), "iad-1", "")


def test_who_may_hold_what_is_not_searched_among_all_deployments_for_each_name():
    class Counted(dict):
        looked_at = 0

        def values(self):
            Counted.looked_at += 1
            return super().values()

    many = (
        replace(DEPLOYED, name=f"d{number}", adapter=f"acme/fr@{number}") for number in range(500)
    )
    table = view(pop("IAD"), node("iad-1", "IAD"), *many)
    table = replace(table, deployments=Counted(table.deployments))
    assert all(may_hold(table, "iad-1", f"acme/fr@{number}") for number in range(500))
    assert Counted.looked_at == 1
    assert not may_hold(table, "iad-1", "")
    gone = replace(table, deployments={})
    assert not may_hold(gone, "iad-1", "acme/fr@1")


NEXT = NextVersion("acme/m@2", "acme/fr@2")


@pytest.mark.parametrize("name", ["acme/m@2", "acme/fr@2"])
def test_what_a_deployment_is_changed_to_may_be_held_already(name):
    assert may_hold(world(asked=replace(DEPLOYED, next=NEXT)), "iad-1", name)
    assert not may_hold(world(), "iad-1", name)


@pytest.mark.parametrize(
    "following",
    [
        replace(NEXT, residency_zones=("BR",)),
        replace(NEXT, pins=frozenset({"gru-1"})),
        replace(NEXT, pins=frozenset()),
    ],
)
def test_the_next_version_goes_by_its_own_zones_and_pins(following):
    asked = replace(DEPLOYED, next=following)
    assert not may_hold(world(asked=asked), "iad-1", following.model)
    assert may_hold(world(asked=asked), "iad-1", asked.model)


def test_a_next_version_may_be_held_where_the_present_one_may_not():
    narrow = replace(DEPLOYED, residency_zones=("BR",), next=NEXT)
    assert may_hold(world(asked=narrow), "iad-1", NEXT.model)
    assert not may_hold(world(asked=narrow), "iad-1", DEPLOYED.model)


def test_a_next_version_without_an_adapter_names_none():
    asked = replace(DEPLOYED, next=replace(NEXT, adapter=""))
    assert names_held(world(asked=asked)) == {DEPLOYED.model, "acme/fr@1", "acme/m@2"}
    assert not may_hold(world(asked=asked), "iad-1", "")


def test_what_every_deployment_keeps_out_of_a_zone_is_outside_there():
    abroad = replace(DEPLOYED, residency_zones=("BR",))
    assert is_outside(world(asked=abroad), "iad-1", DEPLOYED.model)
    assert is_outside(world(asked=abroad), "iad-1", "acme/fr@1")
    assert not is_outside(world(), "iad-1", DEPLOYED.model)
    assert names_outside(world(asked=abroad), "iad-1") == {DEPLOYED.model, "acme/fr@1"}
    assert names_outside(world(), "iad-1") == set()


@pytest.mark.parametrize(
    "table",
    [
        view(pop("IAD"), node("iad-1", "IAD")),
        view(node("iad-1", "IAD"), replace(DEPLOYED, residency_zones=("BR",))),
        world(asked=replace(DEPLOYED, residency_zones=(), pins=frozenset({"gru-1"}))),
        view(
            pop("IAD"),
            node("iad-1", "IAD"),
            replace(DEPLOYED, residency_zones=("BR",)),
            replace(DEPLOYED, name="open", residency_zones=()),
        ),
    ],
    ids=["nobody names it", "own zone unknown", "pinned elsewhere", "another one is not bound"],
)
def test_nothing_is_outside_for_another_reason_than_its_zones(table):
    assert not is_outside(table, "iad-1", DEPLOYED.model)
