"""A flattering profile wins little from targets whose outcomes are known."""

from __future__ import annotations

import random

import pytest

from agent.core.live import LiveState
from protos.domain.candidates import SETTLED_OBSERVATIONS, gather
from protos.domain.resources import Tier
from protos.domain.trust import FIRST_REQUESTS, is_within_allowance, tickets, within_allowance
from tests.support.fleets import lookup, model, node, pop, price, replica, request, target, view
from tests.support.request_world import RequestWorld, fleet

HONEST_MS, LIAR_SAYS_MS, LIAR_TAKES_MS = 40.0, 5.0, 900.0


def world_of(tiers=None, explore_ratio: float = 0.01) -> RequestWorld:
    """Two targets with known outcomes, and a new one with a flattering profile."""
    told = {"a": HONEST_MS, "b": HONEST_MS, "liar": LIAR_SAYS_MS}
    world = RequestWorld(fleet(told, tiers), node_id="self", explore_ratio=explore_ratio)
    world.state.draw = random.Random(7).random
    for name in ("a", "b"):
        world.learned(name, HONEST_MS)
    return world


def served(world: RequestWorld, streams: int) -> int:
    """Send streams one after the other; return how many went to the liar."""
    lied = 0
    for _ in range(streams):
        world.begin()
        while not world.machine.over:
            name = next(reversed(world.attempts))
            lied += name == "liar"
            world.token(name, LIAR_TAKES_MS if name == "liar" else HONEST_MS)
            world.stream_ends(name, 1.0)
        world.attempts.clear()
    return lied


def test_a_new_node_with_a_flattering_profile_gets_few_streams_before_its_outcomes_count():
    world = world_of()
    assert served(world, 400) <= SETTLED_OBSERVATIONS + 5
    assert served(world, 400) <= 8, "explorations only, of an engine that is known to be slow"


def test_a_cheaper_node_with_a_flattering_profile_gets_as_many_as_teach_its_speed():
    tiers = {"a": Tier.EDGE, "b": Tier.EDGE, "liar": Tier.CENTRAL}
    world = world_of(tiers)
    assert served(world, 400) <= SETTLED_OBSERVATIONS + 5


def test_of_streams_at_once_an_unproven_node_gets_no_more_than_its_allowance():
    world = world_of({"a": Tier.EDGE, "b": Tier.EDGE, "liar": Tier.CENTRAL}, explore_ratio=0.0)
    for _ in range(12):
        world.begin()
    assert world.state.live.in_flight("liar") == FIRST_REQUESTS


def candidates(states, own="self"):
    rows = [pop("IAD", Tier.CENTRAL), model(), price(Tier.CENTRAL, 10)]
    for name in states:
        rows += [node(name, "IAD"), replica(name)]
    return gather(view(*rows), request(), own, lookup(states), frozenset())


def test_profiles_decide_among_unproven_targets():
    found = candidates({"a": target(), "b": target()})
    assert within_allowance(found) is found
    assert tickets(found) == [4, 4]


def test_the_own_engine_needs_no_outcomes():
    found = candidates({"a": target(), "b": target(in_flight=1)}, own="a")
    assert found[0].outcomes == SETTLED_OBSERVATIONS
    assert tickets(found) == [4, 1], "the other has not answered anything yet"


@pytest.mark.parametrize(
    ("running", "allowed"), [(FIRST_REQUESTS - 1, True), (FIRST_REQUESTS, False)]
)
def test_an_allowance_counts_this_agents_own_requests(running, allowed):
    busy = target()
    busy.own_in_flight = running
    found = candidates({"a": target(), "b": busy}, own="a")
    assert is_within_allowance(found[1]) is allowed
    assert (found[1] in within_allowance(found)) is allowed


def test_whole_answers_are_evidence_too_so_that_a_new_node_grows_into_its_share():
    live = LiveState()
    for _ in range(10):
        live.request_ended("b", live.request_started("b", 0.0))
        live.succeeded("b")
    for _ in range(FIRST_REQUESTS + 9):
        live.request_started("b", 1.0)

    def allowed() -> bool:
        states = live.targets(("a", "b"), 1.0, lambda _node_id: True, {})
        return is_within_allowance(candidates(states, own="a")[1])

    assert allowed()
    live.request_started("b", 1.0)
    assert not allowed()
    live.probed("b", 1.0, 1.0)
    assert not allowed(), "an answered probe is no answered request"
