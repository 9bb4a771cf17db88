"""Transcripts of late first tokens: second copies of a request, explored targets."""

from __future__ import annotations

from protos.domain.resources import Tier
from tests.support.request_world import (
    QUIET,
    TWO,
    RequestWorld,
    fleet,
    outcomes,
)


def hedging() -> RequestWorld:
    world = RequestWorld(fleet(TWO), hedge_ratio=1.0, policy=QUIET)
    world.learned("near", 20.0)
    world.learned("far", 60.0)
    return world


def test_a_late_first_token_gets_a_second_copy_and_the_first_answer_wins():
    world = hedging()
    assert world.begin() == ["ask near"]
    assert world.wait(60.0) == ["ask far (second_copy)"]
    assert world.token("far", 20.0) == ["cancel near", "head far"]
    assert world.stream_ends("far") == ["account", "end far"]
    assert outcomes(world) == [("near", "overtaken"), ("far", "answered")]
    assert world.log.hedge_won


def test_a_first_copy_that_is_sooner_after_all_wins_and_the_second_is_cut():
    world = hedging()
    world.begin()
    world.wait(60.0)
    assert world.token("near", 10.0) == ["cancel far", "head near"]
    world.stream_ends("near")
    assert not world.log.hedge_won


def test_a_failed_first_copy_leaves_the_second_running():
    world = hedging()
    world.begin()
    world.wait(60.0)
    assert world.lost("near") == []
    assert world.token("far", 10.0) == ["head far"]


def test_a_failed_second_copy_leaves_the_first_running():
    world = hedging()
    world.begin()
    world.wait(60.0)
    assert world.whole("far", 503) == []
    assert world.token("near", 10.0) == ["head near"]


def test_if_both_copies_fail_the_request_fails():
    world = hedging()
    world.begin()
    world.wait(60.0)
    assert world.lost("near") == []
    assert world.lost("far") == ["error 503 NoReplica"]


def test_the_customer_pays_the_tier_of_the_first_copy():
    tiers = {"near": Tier.CENTRAL, "far": Tier.EDGE}
    world = RequestWorld(fleet(TWO, tiers), hedge_ratio=1.0, policy=QUIET)
    world.learned("near", 20.0)
    world.learned("far", 60.0)
    world.begin()
    world.wait(60.0)
    world.token("far", 10.0)
    world.stream_ends("far")
    assert (world.log.serving_tier, world.log.billing_tier) == (Tier.EDGE, Tier.CENTRAL)


def test_with_no_other_target_in_time_there_is_no_second_copy():
    """When the first is late, what is left of 70 ms is too little for the other."""
    world = RequestWorld(fleet(TWO), hedge_ratio=1.0, policy=QUIET, budget_ms=70.0)
    world.learned("near", 20.0)
    world.learned("far", 60.0)
    world.begin()
    assert world.wait(60.0) == []


def test_a_request_without_a_stream_is_never_sent_twice():
    world = RequestWorld(fleet(TWO), hedge_ratio=1.0, policy=QUIET, stream=False)
    world.learned("near", 20.0)
    world.learned("far", 60.0)
    world.begin()
    assert world.wait(10_000.0) == []


def test_a_client_gone_while_both_copies_run_cuts_both():
    world = hedging()
    world.begin()
    world.wait(60.0)
    assert world.gone() == ["cancel near", "cancel far", "account"]
