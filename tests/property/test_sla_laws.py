"""The last places are reserved for stricter SLA tiers; no request is refused or costs more."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from protos.domain.choice import KEPT_RATIO, has_open_places
from protos.domain.errors import BudgetUnreachable, EdgeForgeError
from protos.domain.resources import SlaTier, Tier
from protos.domain.router import place
from tests.support.fleets import (
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
from tests.support.strategies import NODE_IDS, draws, fills, fleets, lookups, requests

BY_TIME = (SlaTier.REALTIME, SlaTier.INTERACTIVE, SlaTier.STANDARD)
sla_tiers = st.sampled_from(BY_TIME)


def placed(fleet, shape, live, draw, fill):
    try:
        return place(fleet, shape, NODE_IDS[0], live, draw=draw, fill=fill)
    except EdgeForgeError:
        return None


@given(fleets(), requests(), lookups, fills, draws)
def test_tiers_are_refused_served_and_billed_alike_and_only_preferred_otherwise(
    fleet, shape, live, fill, draw
):
    def of(sla_tier):
        own = replace(shape, deployment=replace(shape.deployment, sla_tier=sla_tier))
        return placed(fleet, own, live.__getitem__, draw, fill.__getitem__)

    told = [of(each) for each in BY_TIME]
    assert len({each is None for each in told}) == 1
    if told[0] is None:
        return
    assert len({each.predicted_miss for each in told}) == 1
    if not told[0].predicted_miss:
        assert len({each.billing_tier for each in told}) == 1
    for placement, sla_tier in zip(told, BY_TIME, strict=True):
        fitting = [each for each in placement.candidates if each.fits]
        if any(has_open_places(each, sla_tier) for each in fitting):
            assert has_open_places(placement.chosen, sla_tier)


@given(st.integers(0, 40), st.integers(0, 40))
def test_places_open_to_a_tier_are_open_to_stricter_tiers_and_the_first_place_to_all(
    places, in_flight
):
    fleet = view(pop("P0"), node("n-0", "P0"), model(), replica("n-0", max_parallel=places))
    live = lookup({"n-0": target(in_flight=in_flight)})
    placement = placed(fleet, request(budget_left_ms=1e9), live, 0.0, lambda _: 0.0)
    is_open = [has_open_places(placement.chosen, each) for each in BY_TIME]
    assert is_open == sorted(is_open, reverse=True)
    assert is_open[0] is (in_flight < places)
    if places and not in_flight:
        assert all(is_open)


@given(
    st.lists(sla_tiers, max_size=60), st.lists(st.integers(1, 20), min_size=2, max_size=4), draws
)
def test_reserved_places_stay_free_while_any_target_has_an_open_one(arrivals, places, draw):
    """Requests of all tiers come and stay; prices differ, everything is in time."""
    names = [f"n-{index}" for index in range(len(places))]
    tiers = list(Tier)
    fleet = view(
        model(), *(price(tier, 10 + rank) for rank, tier in enumerate(tiers)),
        *(pop(f"P{index}", tiers[index % 3]) for index in range(len(places))),
        *(node(name, f"P{index}") for index, name in enumerate(names)),
        *(replica(name, max_parallel=count) for name, count in zip(names, places, strict=True)),
    )  # fmt: skip
    there: Counter[str] = Counter()
    for sla_tier in arrivals:
        live = lookup({name: target(in_flight=there[name]) for name in names})
        shape = request(deployment(sla_tier=sla_tier), budget_left_ms=1e9)
        chosen = placed(fleet, shape, live, draw, lambda _: 1.0).chosen
        free = {name: count - there[name] for name, count in zip(names, places, strict=True)}
        if any(
            free[name] - 1 >= KEPT_RATIO[sla_tier] * (count - 1)
            for name, count in zip(names, places, strict=True)
        ):
            kept = KEPT_RATIO[sla_tier] * (chosen.replica.profile.max_parallel - 1)
            assert free[chosen.node.id] - 1 >= kept
        there[chosen.node.id] += 1


@given(st.integers(1, 8), st.integers(1, 60), st.floats(100.0, 5_000.0), st.floats(60.0, 1_000.0))
def test_after_retry_after_the_queue_is_short_enough(places, queued, tokens_per_s, budget_ms):
    engine = profile(40.0, max_parallel=places, tokens_per_s=tokens_per_s)
    fleet = view(pop("P0"), node("n-0", "P0"), model(), replace(replica("n-0"), profile=engine))
    shape = request(deployment(strict=True), budget_left_ms=budget_ms)

    live = lookup({"n-0": target(in_flight=places, queued=queued)})
    patient = replace(shape, deployment=deployment())
    told = place(fleet, patient, "n-0", live, draw=0.0, fill=lambda _: 0.0).chosen.prediction
    try:
        place(fleet, shape, "n-0", live, draw=0.0, fill=lambda _: 0.0)
    except BudgetUnreachable as refused:
        passed_ms = refused.retry_after_s * 1_000.0
        soonest_ms = told.ttft_ms_p99 - told.waiting_ms
        assert max(soonest_ms, told.ttft_ms_p99 - passed_ms) <= budget_ms + 1e-6
        over_ms = told.ttft_ms_p99 - budget_ms
        assert passed_ms <= max(1_000.0, over_ms) + 1e-6, "and not later than that"
    else:
        assert told.ttft_ms_p99 <= budget_ms
