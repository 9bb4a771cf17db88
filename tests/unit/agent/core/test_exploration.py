"""Which target is explored, how rarely, and never at a customer's cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.exploration import (
    MAX_SAVED_EXPLORATIONS,
    SEARCH_EVERY_MS,
    STALE_MS,
    Exploration,
    explored_patience_ms,
    profile_ms,
)
from protos.domain.predictor import FEW_OBSERVATIONS, Outcome, Predictor
from protos.domain.regimes import Load
from protos.domain.resources import Tier
from protos.domain.router import place
from tests.support.fleets import (
    MODEL,
    deployment,
    lookup,
    model,
    node,
    pop,
    price,
    profile,
    replica,
    request,
    target,
    view,
)

NEAR = lookup({}, default=target())


def sites(first_ms=20.0, second_ms=30.0, second_tier=Tier.CENTRAL):
    """Two sites; the first is sooner by its profile, so the second gets no request."""
    return view(
        pop("IAD", Tier.CENTRAL),
        pop("SCL", second_tier),
        node("iad-1", "IAD"),
        node("scl-1", "SCL"),
        model(),
        replica("iad-1", first_ms),
        replica("scl-1", second_ms),
        price(Tier.CENTRAL, 10),
        price(Tier.EDGE, 12),
        price(Tier.REGIONAL, 9),
    )


def outcomes(predictor, node_id, took_ms, count, *, until_ms=0.0):
    for number in range(count):
        outcome = Outcome(Load(10.0), 0.0, took_ms, until_ms - (count - 1 - number))
        predictor.learn(node_id, MODEL, profile(20.0), outcome)


def saved(ratio=1.0, streams=1):
    exploration = Exploration(ratio)
    for _ in range(streams):
        exploration.budget.earn()
    return exploration


def asked(
    exploration,
    predictor,
    *,
    fleet=None,
    live=NEAR,
    budget_ms=1_000.0,
    now=0.0,
    of=None,
):
    learned, shape = predictor.of_model(MODEL), request(of, budget_left_ms=budget_ms)
    placement = place(
        fleet or sites(),
        shape,
        "nobody",
        live,
        draw=0.0,
        fill=lambda _: 1.0,
        learned=learned,
    )
    found = exploration.choose_instead(placement, shape, learned, now)
    return None if found is None else found.node.id


def test_a_target_without_requests_is_explored_within_the_share():
    predictor, exploration = Predictor(), Exploration(0.01)
    outcomes(predictor, "iad-1", 18.0, 100)
    explored = 0
    for number in range(3_000):
        exploration.budget.earn()
        now = number * SEARCH_EVERY_MS
        outcomes(predictor, "iad-1", 18.0, 1, until_ms=now)
        if asked(exploration, predictor, now=now) == "scl-1":
            explored += 1
            outcomes(predictor, "scl-1", 12.0, 1, until_ms=now)
    assert predictor.of_model(MODEL)["scl-1"].known
    assert FEW_OBSERVATIONS <= explored <= 30
    assert exploration.budget.share <= 0.01


def test_a_slow_target_that_is_no_longer_asked_becomes_uncertain():
    predictor = Predictor()
    outcomes(predictor, "iad-1", 18.0, 100, until_ms=STALE_MS)
    outcomes(predictor, "scl-1", 400.0, 100)
    assert asked(saved(), predictor, now=STALE_MS - 1.0) is None
    assert asked(saved(), predictor, now=STALE_MS) == "scl-1"


def test_targets_with_too_few_outcomes_come_first_then_the_oldest_outcome():
    fleet = view(
        pop("IAD", Tier.CENTRAL), model(), price(Tier.CENTRAL, 10),
        *(node(f"iad-{name}", "IAD") for name in "abcd"),
        *(replica(f"iad-{name}", 10.0 if name == "a" else 40.0) for name in "abcd"),
    )  # fmt: skip
    predictor = Predictor()
    outcomes(predictor, "iad-b", 40.0, 40, until_ms=-STALE_MS)
    outcomes(predictor, "iad-c", 40.0, 40, until_ms=-2 * STALE_MS)
    outcomes(predictor, "iad-d", 40.0, 3)
    assert asked(saved(), predictor, fleet=fleet) == "iad-d"
    outcomes(predictor, "iad-d", 40.0, 40)
    assert asked(saved(), predictor, fleet=fleet) == "iad-c"


def test_a_strict_deployment_never_explores():
    assert asked(saved(), Predictor(), of=deployment(strict=True)) is None


def test_an_explored_target_never_costs_more_than_the_chosen_one():
    dearer = sites(first_ms=30.0, second_ms=20.0, second_tier=Tier.EDGE)
    assert asked(saved(), Predictor(), fleet=dearer) is None


def test_an_explored_target_has_a_free_place_and_no_queue():
    full = lookup({"scl-1": target(in_flight=4)}, default=target())
    waiting = lookup({"scl-1": target(in_flight=1, queued=1)}, default=target())
    for live in (full, waiting):
        assert asked(saved(), Predictor(), live=live, budget_ms=100_000.0) is None


def test_no_exploration_if_the_chosen_target_could_not_be_in_time_afterwards():
    """Profiles say 20 and 30 ms, the second with a margin: 58 ms are enough for one after other."""
    predictor = Predictor()
    assert asked(saved(), predictor, budget_ms=57.0) is None
    assert asked(saved(), predictor, budget_ms=59.0) == "scl-1"
    assert explored_patience_ms(59.0, 20.0) == pytest.approx(39.0)
    assert explored_patience_ms(10.0, 20.0) == 0.0


def test_no_exploration_if_a_miss_is_predicted():
    assert asked(saved(), Predictor(), budget_ms=10.0) is None


def test_a_search_without_result_is_not_repeated_at_once():
    exploration = saved(streams=5)
    predictor = Predictor()
    outcomes(predictor, "iad-1", 18.0, 40, until_ms=100_000.0)
    outcomes(predictor, "scl-1", 400.0, 40, until_ms=100_000.0)
    stale = 100_000.0 + STALE_MS
    assert asked(exploration, predictor, now=stale - 1.0) is None
    assert asked(exploration, predictor, now=stale) is None
    assert asked(exploration, predictor, now=stale - 1.0 + SEARCH_EVERY_MS) == "scl-1"


def test_saved_extras_are_bounded():
    exploration = saved(streams=1_000)
    taken = 0
    while asked(exploration, Predictor()) is not None:
        taken += 1
    assert taken == MAX_SAVED_EXPLORATIONS


@given(
    first_ms=st.floats(1.0, 200.0),
    second_ms=st.floats(1.0, 200.0),
    budget_ms=st.floats(1.0, 400.0),
    in_flight=st.integers(0, 6),
    tier=st.sampled_from(Tier),
)
def test_an_explored_target_leaves_time_for_the_other_and_costs_no_more(
    first_ms, second_ms, budget_ms, in_flight, tier
):
    live = lookup({"scl-1": target(in_flight=in_flight)}, default=target())
    shape = request(budget_left_ms=budget_ms)
    placement = place(
        sites(first_ms, second_ms, tier), shape, "nobody", live, draw=0.0, fill=lambda _: 1.0
    )
    found = saved().choose_instead(placement, shape, {}, 0.0)
    if found is None:
        return
    chosen = placement.chosen
    assert found is not chosen
    assert profile_ms(found) + chosen.ttft_ms_p99 <= budget_ms
    assert found.price_nano_usd_per_1k_tokens <= chosen.price_nano_usd_per_1k_tokens
    assert found.headroom > 0
