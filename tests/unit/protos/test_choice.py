"""The choice among candidates, and the billing tier."""

from __future__ import annotations

from collections import Counter

import pytest

from protos.domain.candidates import gather
from protos.domain.choice import DEFAULT_TIER, break_ties, choose, in_time_ratio, near_ties
from protos.domain.errors import BudgetUnreachable
from protos.domain.load_term import ColdPath, ColdWay, LoadTerm
from protos.domain.resources import Residency, SlaTier, Tier
from tests.support.fleets import (
    deployment,
    lookup,
    model,
    node,
    pop,
    price,
    replica,
    request,
    target,
    view,
)

NEAR = lookup({}, default=target())


def one_pop(tier=Tier.EDGE, **first_token_ms):
    """Equal prices: one node a name, each with its own prediction."""
    return view(
        pop("IAD", tier),
        model(),
        price(tier, 10),
        *(node(f"iad-{name}", "IAD") for name in first_token_ms),
        *(replica(f"iad-{name}", ms) for name, ms in first_token_ms.items()),
    )


def chosen(fleet, shape=None, live=NEAR, *, draw=0.0, fill=None, ratio=0.70):
    shape = shape or request()
    candidates = gather(fleet, shape, "nobody", live, frozenset())
    return choose(
        fleet,
        shape,
        candidates,
        draw=draw,
        fill=fill or (lambda _: 0.0),
        edge_fill_ratio=ratio,
    )


@pytest.mark.parametrize("draw", [0.0, 0.3, 0.6, 0.99])
def test_nothing_is_loaded_where_a_target_of_equal_time_and_price_has_it(draw):
    fleet = one_pop(warm=40.0, cold=40.0)
    candidates = gather(fleet, request(), "nobody", NEAR, frozenset())
    for one in candidates:
        if one.node.id == "iad-cold":
            one.cold = LoadTerm(ColdWay(ColdPath.ADAPTER, Residency.HOST_MEMORY), 0.1, 0.2, True)
            one.ttft_ms_p99 += 0.2
    picked = choose(
        fleet, request(), candidates, draw=draw, fill=lambda _: 0.0, edge_fill_ratio=0.0
    )
    assert picked.chosen.node.id == "iad-warm"
    (cold,) = (one for one in candidates if one.cold is not None)
    assert near_ties([cold, cold]) == [cold, cold]


def learned(candidate, *quantiles_ms):
    """Predictors with these quantiles at any load."""
    candidate.evidence = tuple((ms, 0.0, 0.0, 0.0, 0.0) for ms in quantiles_ms)
    candidate.ttft_ms_p99, candidate.fits = quantiles_ms[-1], False


def test_in_time_ratio_goes_through_the_known_quantiles():
    told = (20.0, 60.0, 100.0)
    at = {ms: round(in_time_ratio(*told, ms), 3) for ms in (0.0, 20.0, 40.0, 60.0, 80.0, 100.0)}
    assert at == {0.0: 0.0, 20.0: 0.0, 40.0: 0.725, 60.0: 0.95, 80.0: 0.97, 100.0: 0.99}


def test_in_time_ratio_of_a_prediction_without_a_spread():
    assert in_time_ratio(50.0, 50.0, 50.0, 49.0) == 0.0
    assert in_time_ratio(50.0, 50.0, 50.0, 50.0) == 0.99
    assert 0.5 < in_time_ratio(50.0, 50.0, 80.0, 51.0) < 0.99


def test_where_nothing_fits_the_likeliest_in_time_serves_not_the_lowest_p99():
    """A near target with P99 290 ms but mostly 25; a far one with 144 ms at best; 72 ms left."""
    fleet = two_tiers()
    shape = request(budget_left_ms=72.0)
    near, far = gather(fleet, shape, "nobody", NEAR, frozenset())
    learned(near, 25.0, 210.0, 290.0)
    learned(far, 125.0, 138.0, 144.0)
    placement = choose(fleet, shape, [far, near], draw=0.0, fill=lambda _: 0.0, edge_fill_ratio=0.7)
    assert placement.chosen is near
    assert placement.predicted_miss
    learned(near, 73.0, 210.0, 290.0)
    placement = choose(fleet, shape, [far, near], draw=0.0, fill=lambda _: 0.0, edge_fill_ratio=0.7)
    assert placement.chosen is far, "without a chance anywhere: the fastest"


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.999])
def test_of_equal_prices_the_lower_p99_wins(draw):
    assert chosen(one_pop(a=60.0, b=50.0), draw=draw).chosen.node.id == "iad-b"


def test_near_ties_are_spread_by_headroom():
    fleet = one_pop(a=50.0, b=50.5)
    live = lookup({"iad-a": target(in_flight=3), "iad-b": target(in_flight=1)})
    draws = [step / 100 for step in range(100)]
    shape = request(deployment(sla_tier=SlaTier.REALTIME))
    counts = Counter(
        chosen(fleet, shape, live, draw=draw, ratio=0.0).chosen.node.id for draw in draws
    )
    assert counts == {"iad-a": 25, "iad-b": 75}


def test_near_ties_without_headroom_are_spread_evenly():
    fleet = one_pop(a=50.0, b=50.0)
    live = lookup({}, default=target(in_flight=4))
    draws = [step / 100 for step in range(100)]
    shape = request(budget_left_ms=10_000.0)
    counts = Counter(chosen(fleet, shape, live, draw=draw).chosen.node.id for draw in draws)
    assert counts == {"iad-a": 50, "iad-b": 50}


def test_the_largest_draw_still_picks_a_target():
    candidates = chosen(one_pop(a=50.0, b=50.0)).candidates
    assert break_ties(candidates, 1.0 - 2**-53) is candidates[1]


def test_a_near_tie_is_bounded():
    assert len(near_ties(chosen(one_pop(a=50.0, b=52.5)).candidates)) == 2
    assert len(near_ties(chosen(one_pop(a=50.0, b=52.6)).candidates)) == 1
    assert len(near_ties(chosen(one_pop(a=10.0, b=12.0)).candidates)) == 2


def two_tiers(edge_price=12, central_price=10, edge_ms=50.0, central_ms=100.0):
    return view(
        pop("GRU", Tier.EDGE),
        pop("IAD", Tier.CENTRAL),
        node("gru-1", "GRU"),
        node("iad-1", "IAD"),
        model(),
        replica("gru-1", edge_ms),
        replica("iad-1", central_ms),
        price(Tier.EDGE, edge_price),
        price(Tier.CENTRAL, central_price),
    )


@pytest.mark.parametrize("tiers", [(Tier.EDGE, Tier.CENTRAL), (Tier.CENTRAL, Tier.EDGE)])
def test_of_targets_exactly_alike_the_first_of_the_table_serves_a_miss_and_is_billed(tiers):
    first, second = tiers

    def placed(*rates, budget_left_ms):
        fleet = view(
            pop("A", first), pop("B", second), node("n-a", "A"), node("n-b", "B"), model(),
            replica("n-a", 50.0), replica("n-b", 50.0), *map(price, tiers, rates),
        )  # fmt: skip
        return chosen(fleet, request(budget_left_ms=budget_left_ms))

    missed = placed(20, 10, budget_left_ms=10.0)
    assert missed.predicted_miss
    assert [each.node.id for each in missed.candidates] == ["n-a", "n-b"], "whatever their rates"
    assert missed.chosen.node.id == "n-a"
    assert placed(10, 10, budget_left_ms=100.0).billing_tier is first


def test_cheapest_that_fits_even_when_it_is_later():
    placement = chosen(two_tiers(), fill=lambda _: 0.9)
    assert placement.chosen.node.id == "iad-1"
    assert (placement.serving_tier, placement.billing_tier) == (Tier.CENTRAL, Tier.CENTRAL)


@pytest.mark.parametrize(
    ("fill", "node_id"), [(0.0, "gru-1"), (0.699, "gru-1"), (0.7, "iad-1"), (1.5, "iad-1")]
)
def test_edge_is_preferred_only_under_its_fill_target(fill, node_id):
    placement = chosen(two_tiers(), fill=lambda _: fill)
    assert placement.chosen.node.id == node_id
    assert placement.billing_tier is Tier.CENTRAL, "filling the edge is our choice"


@pytest.mark.parametrize(
    ("sla", "free", "node_id"),
    [
        (SlaTier.REALTIME, 1, "gru-1"),
        (SlaTier.REALTIME, 0, "iad-1"),
        (SlaTier.INTERACTIVE, 2, "gru-1"),
        (SlaTier.INTERACTIVE, 1, "iad-1"),
        (SlaTier.STANDARD, 3, "gru-1"),
        (SlaTier.STANDARD, 2, "iad-1"),
    ],
)
def test_the_last_places_of_an_edge_are_kept_for_the_least_time(sla, free, node_id):
    """Independent of the fill of the last minute."""
    shape = request(deployment(sla_tier=sla), budget_left_ms=100_000.0)
    live = lookup({"gru-1": target(in_flight=4 - free)}, default=target())
    placement = chosen(two_tiers(), shape, live)
    assert placement.chosen.node.id == node_id
    assert placement.billing_tier is Tier.CENTRAL


def test_edge_preference_never_reaches_outside_what_fits():
    fleet = two_tiers(edge_ms=200.0)
    placement = chosen(fleet, fill=lambda _: 0.0)
    assert placement.chosen.node.id == "iad-1"
    assert not placement.predicted_miss


def test_fill_is_asked_of_edge_nodes_only():
    asked = []
    chosen(two_tiers(), fill=lambda node_id: asked.append(node_id) or 0.0)
    assert asked == ["gru-1"]


def test_of_two_edges_under_their_fill_target_the_emptier_is_not_forced():
    fleet = one_pop(a=50.0, b=50.0)
    fills = {"iad-a": 0.8, "iad-b": 0.1}
    for draw in (0.0, 0.9):
        assert chosen(fleet, draw=draw, fill=fills.__getitem__).chosen.node.id == "iad-b"


@pytest.mark.parametrize(
    ("sla", "default"),
    [
        (SlaTier.REALTIME, Tier.EDGE),
        (SlaTier.INTERACTIVE, Tier.REGIONAL),
        (SlaTier.STANDARD, Tier.CENTRAL),
    ],
)
def test_default_tier_of_each_sla(sla, default):
    assert DEFAULT_TIER[sla] is default


def test_a_miss_goes_to_the_fastest_and_is_billed_at_the_lower_tier():
    late = request(budget_left_ms=10.0)
    placement = chosen(two_tiers(), late)
    assert placement.predicted_miss
    assert placement.serving_tier is Tier.EDGE
    assert placement.billing_tier is Tier.CENTRAL
    realtime = request(deployment(sla_tier=SlaTier.REALTIME), budget_left_ms=10.0)
    assert chosen(two_tiers(), realtime).billing_tier is Tier.EDGE
    fast_central = two_tiers(central_ms=20.0)
    assert chosen(fast_central, realtime).billing_tier is Tier.CENTRAL


def test_a_miss_at_equal_rates_is_billed_as_served():
    late = request(budget_left_ms=10.0)
    assert chosen(two_tiers(edge_price=10), late).billing_tier is Tier.EDGE


def test_a_miss_with_a_missing_price_is_billed_at_the_tier_that_has_one():
    late = request(budget_left_ms=10.0)
    fleet = view(
        pop("GRU", Tier.EDGE), node("gru-1", "GRU"), model(), replica("gru-1"),
        price(Tier.EDGE, 12),
    )  # fmt: skip
    assert chosen(fleet, late).billing_tier is Tier.EDGE
    fleet = view(pop("GRU", Tier.EDGE), node("gru-1", "GRU"), replica("gru-1"))
    assert chosen(fleet, late).billing_tier is Tier.EDGE


def test_a_spent_budget_misses_but_is_still_served():
    assert chosen(two_tiers(), request(budget_left_ms=-5.0)).predicted_miss


def test_a_strict_refusal_has_a_time_to_retry():
    shape = request(deployment(strict=True), budget_left_ms=10.0)
    slow = two_tiers(edge_ms=9_010.0, central_ms=9_500.0)
    with pytest.raises(BudgetUnreachable) as raised:
        chosen(slow, shape)
    assert raised.value.retry_after_s == pytest.approx(9.0)


def cheap_and_dear(places):
    """Both fit: central at 10 with this number of places, edge at 12 with many."""
    return view(
        pop("IAD", Tier.CENTRAL), pop("GRU"), node("iad-1", "IAD"), node("gru-1", "GRU"), model(),
        price(Tier.CENTRAL, 10), price(Tier.EDGE, 12),
        replica("iad-1", max_parallel=places), replica("gru-1", max_parallel=1_000),
    )  # fmt: skip


def filled_before_leaving(places, sla_tier):
    """Place one request after another; return how many the cheap target got."""
    fleet = cheap_and_dear(places)
    shape = request(deployment(sla_tier=sla_tier), budget_left_ms=100_000.0)
    for in_flight in range(places + 1):
        live = lookup({"iad-1": target(in_flight=in_flight)}, default=target())
        placement = chosen(fleet, shape, live, ratio=0.0)
        assert placement.billing_tier is Tier.CENTRAL, "what is kept from a customer costs nothing"
        if placement.chosen.node.id != "iad-1":
            return in_flight
    return places


@pytest.mark.parametrize(
    ("places", "standard", "interactive"), [(1, 1, 1), (2, 1, 1), (4, 3, 3), (16, 13, 14)]
)
def test_the_last_places_are_kept_for_tiers_with_less_time(places, standard, interactive):
    assert filled_before_leaving(places, SlaTier.STANDARD) == standard
    assert filled_before_leaving(places, SlaTier.INTERACTIVE) == interactive
    assert filled_before_leaving(places, SlaTier.REALTIME) == places


def test_a_kept_place_is_used_when_no_other_is_free():
    fleet = one_pop(a=50.0)
    last = lookup({"iad-a": target(in_flight=3)})
    assert chosen(fleet, live=last).chosen.node.id == "iad-a"
    full = lookup({"iad-a": target(in_flight=4)})
    patient = request(budget_left_ms=10_000.0)
    assert chosen(fleet, patient, full).chosen.node.id == "iad-a"


def test_a_dearer_free_place_is_preferred_to_a_queue_that_fits():
    fleet = cheap_and_dear(4)
    live = lookup({"iad-1": target(in_flight=4)}, default=target())
    shape = request(deployment(sla_tier=SlaTier.REALTIME), budget_left_ms=10_000.0)
    placement = chosen(fleet, shape, live, ratio=0.0)
    assert all(each.fits for each in placement.candidates)
    assert placement.chosen.node.id == "gru-1"
    assert placement.billing_tier is Tier.CENTRAL


def test_a_strict_deployment_is_refused_until_the_queue_is_short_enough():
    """Four places at 400 tokens/s: 527.5 ms a request ahead, 211 tokens each."""
    fleet = one_pop(a=50.0)
    shape = request(deployment(strict=True), budget_left_ms=150.0)
    behind = lookup({"iad-a": target(in_flight=4, queued=5)})
    with pytest.raises(BudgetUnreachable) as refused:
        chosen(fleet, shape, behind)
    assert refused.value.retry_after_s == pytest.approx((50.0 + 6 * 527.5 - 150.0) / 1_000.0)
    patient = request(deployment(), budget_left_ms=150.0)
    assert chosen(fleet, patient, behind).predicted_miss, (
        "who is not strict goes where it is soonest"
    )


def test_retry_after_counts_queues_and_not_what_waiting_cannot_shorten():
    """One is always 50 ms too slow, the other has a queue that is gone in 3 s."""
    fleet = one_pop(slow=200.0, busy=50.0)
    shape = request(deployment(strict=True), budget_left_ms=150.0)
    live = lookup({"iad-busy": target(in_flight=4, queued=5)}, default=target())
    with pytest.raises(BudgetUnreachable) as refused:
        chosen(fleet, shape, live)
    assert refused.value.retry_after_s == pytest.approx(3.065)
