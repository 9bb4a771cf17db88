"""Every candidate, its terms, and why it won or lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protos.domain.resources import NodeHealth, ReplicaState, Residency, SlaTier, Tier
from protos.domain.router import explain, place
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
    three_tiers,
    view,
)

NEAR = lookup({}, default=target())


def explained(fleet, shape=None, live=NEAR, *, fill=0.0, draw=0.0, **options):
    return explain(
        fleet, shape or request(), "gru-1", live, draw=draw, fill=lambda _: fill, **options
    )


def verdicts(explanation):
    return {line.node_id: line.verdict for line in explanation.candidates}


def test_worked_example_explained():
    told = explained(three_tiers(), fill=0.4)
    assert verdicts(told) == {
        "gru-1": "fits; edge filled to 40%, preferred under 70%",
        "scl-1": "fits; edge capacity on gru-1 is paid for and free",
        "iad-1": "over the budget by 55.0 ms",
    }
    assert (told.serving_tier, told.billing_tier) == (Tier.EDGE, Tier.REGIONAL)
    assert told.summary == "gru-1 in GRU serves (edge), billed as regional: P99 96.0 ms, fits"
    assert [line.chosen for line in told.candidates] == [False, False, True]
    assert [line.price_nano_usd_per_1k_tokens for line in told.candidates] == [
        20_000, 22_000, 24_000,
    ]  # fmt: skip


def test_full_edge_explained():
    told = explained(three_tiers(), fill=0.8)
    assert verdicts(told)["scl-1"] == "fits; cheapest that fits"
    assert verdicts(told)["gru-1"] == "fits; dearer than scl-1 by 2000 nano-USD per 1,000 tokens"


def test_predicted_miss_explained():
    told = explained(three_tiers(), request(budget_left_ms=90.0))
    assert told.predicted_miss
    assert verdicts(told)["gru-1"] == (
        "over the budget by 6.0 ms; nothing fits and this is the likeliest in time"
    )
    assert told.summary.endswith("predicted miss")


def test_hard_filtered_replicas_are_listed_last_with_their_reason():
    fleet = view(
        pop("IAD", Tier.CENTRAL),
        pop("GRU", zone="BR"),
        node("iad-1", "IAD"),
        node("iad-2", "IAD", NodeHealth.DEAD),
        node("iad-3", "IAD"),
        node("gru-1", "GRU"),
        model(),
        replica("gru-1"),
        replica("iad-2"),
        replica("iad-3", state=ReplicaState.PULLING),
        replica("iad-1"),
        replica("lost-1"),
    )
    told = explained(fleet, request(deployment(zones=("US",))))
    assert verdicts(told) == {
        "iad-1": "fits; cheapest that fits",
        "gru-1": "never: outside the allowed zones (BR)",
        "iad-2": "never: dead",
        "iad-3": "never: not ready (replica is pulling)",
        "lost-1": "never: not in the topology",
    }
    assert told.candidates[0].chosen
    assert told.candidates[-1].prediction is None


def test_refusals_are_described_not_raised():
    nowhere = explained(view(model(), deployment()))
    assert nowhere.summary.startswith("refused: 'small' is deployed on no engine")
    assert (nowhere.serving_tier, nowhere.billing_tier) == (None, None)
    strict = explained(three_tiers(), request(deployment(strict=True), budget_left_ms=90.0))
    assert strict.summary.startswith("refused: 'small' is strict")
    assert verdicts(strict)["gru-1"] == "over the budget by 6.0 ms"
    long = explained(three_tiers(), request(prompt_tokens=10_000))
    assert long.summary.startswith("refused: This model's maximum context length is 8192 tokens")
    assert verdicts(long)["gru-1"] == "fits, but the request is refused"


def twins(**first_token_ms):
    return view(
        pop("IAD", Tier.CENTRAL),
        model(),
        price(Tier.CENTRAL, 10),
        *(node(f"iad-{name}", "IAD") for name in first_token_ms),
        *(replica(f"iad-{name}", ms) for name, ms in first_token_ms.items()),
    )


def test_drawn_among_equals_explained():
    told = verdicts(explained(twins(a=50.0, b=51.0)))
    assert told == {
        "iad-a": "fits; cheapest, drawn by headroom among 2 alike",
        "iad-b": "fits; like iad-a, which was drawn by headroom",
    }


def test_same_price_but_later_explained():
    told = verdicts(explained(twins(a=50.0, b=70.0)))
    assert told["iad-b"] == "fits; costs as much as iad-a, 20.0 ms later"


def test_edge_over_its_fill_target_explained():
    fleet = view(
        pop("GRU"), model(), node("gru-1", "GRU"), node("gru-2", "GRU"),
        replica("gru-1"), replica("gru-2"), price(Tier.EDGE, 12),
    )  # fmt: skip
    fills = {"gru-1": 0.9, "gru-2": 0.2}
    told = explain(fleet, request(), "gru-1", NEAR, draw=0.0, fill=fills.__getitem__)
    assert verdicts(told)["gru-1"] == "fits; edge filled to 90%, at or over 70%"


def test_an_edge_whose_last_places_are_kept_explained():
    fleet = view(
        pop("GRU"), model(), node("gru-1", "GRU"), node("gru-2", "GRU"),
        replica("gru-1"), replica("gru-2"), price(Tier.EDGE, 12),
    )  # fmt: skip
    live = lookup({"gru-1": target(in_flight=2)}, default=target())
    told = explain(fleet, request(), "gru-1", live, draw=0.0, fill=lambda _: 0.0)
    assert verdicts(told) == {
        "gru-1": "fits; the edge has 2 of 4 places free, too few to prefer it for standard",
        "gru-2": "fits; edge filled to 0%, preferred under 70%",
    }


def test_a_tier_off_the_price_card_is_never_served():
    fleet = view(
        pop("IAD", Tier.CENTRAL), pop("SCL", Tier.REGIONAL), model(),
        node("iad-1", "IAD"), node("scl-1", "SCL"),
        replica("iad-1"), replica("scl-1"), price(Tier.CENTRAL, 10),
    )  # fmt: skip
    told = explained(fleet)
    assert verdicts(told)["scl-1"] == "never: without a price on the card"
    assert told.candidates[1].price_nano_usd_per_1k_tokens == 0


@pytest.mark.parametrize("fill", [0.0, 0.8])
@pytest.mark.parametrize("budget_ms", [50.0, 100.0, 150.0, 500.0])
@pytest.mark.parametrize("draw", [0.0, 0.99])
def test_an_explanation_equals_the_placement(fill, budget_ms, draw):
    fleet, shape = three_tiers(), request(budget_left_ms=budget_ms)
    told = explained(fleet, shape, fill=fill, draw=draw)
    done = place(fleet, shape, "gru-1", NEAR, draw=draw, fill=lambda _: fill)
    (winner,) = [line for line in told.candidates if line.chosen]
    assert winner.node_id == done.chosen.node.id
    assert told.predicted_miss == done.predicted_miss
    assert told.billing_tier is done.billing_tier


def test_kept_places_explained():
    fleet = twins(a=50.0, b=90.0)
    live = lookup({"iad-a": target(in_flight=3)}, default=target())
    told = explained(fleet, live=live)
    assert verdicts(told) == {
        "iad-a": "fits; its last 1 of 4 places are kept for those with less time than standard",
        "iad-b": "fits; cheapest that fits",
    }
    realtime = request(deployment(sla_tier=SlaTier.REALTIME))
    assert verdicts(explained(fleet, realtime, live))["iad-a"] == "fits; cheapest that fits"
    full = lookup({"iad-a": target(in_flight=4)}, default=target())
    patient = request(budget_left_ms=10_000.0)
    assert verdicts(explained(fleet, patient, full))["iad-a"] == (
        "fits, but behind others: no place is free"
    )
    nowhere = lookup({}, default=target(in_flight=3))
    assert verdicts(explained(fleet, live=nowhere))["iad-a"] == (
        "fits; cheapest that fits, and no open place anywhere"
    )


def test_a_target_that_loads_first_is_explained_with_its_load():
    cold = replace(replica("iad-1", 20.0), state=ReplicaState.COLD, residency=Residency.DISK)
    fleet = view(pop("IAD", Tier.CENTRAL), node("iad-1", "IAD"), model(), cold)
    told = explained(fleet, request(budget_left_ms=60_000.0), lookup({"iad-1": target(1.0)}))
    (line,) = told.candidates
    assert "loads it first (engine from disk, P99 40270 ms)" in line.verdict
    assert dict(line.prediction.terms())["load"] == 40_270.0


def test_a_target_over_the_premium_is_explained():
    fleet = three_tiers()
    limited = replace(deployment(), max_premium_percent=15)
    told = verdicts(explained(fleet, request(limited, budget_left_ms=500.0)))
    assert told["gru-1"] == "never: dearer than the deployment's limit above central"
    assert told["scl-1"].startswith("fits")
