"""Placement end to end: the design's worked example, then each reason to refuse."""

from __future__ import annotations

import pytest

from protos.domain.errors import BudgetUnreachable, InvalidRequest, NoReplica
from protos.domain.resources import NodeHealth, NodeIntent, ReplicaState, Tier
from protos.domain.router import place
from tests.support.fleets import (
    MODEL,
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


def placed(fleet, shape, live=NEAR, *, fill=0.0, **options):
    return place(fleet, shape, "gru-1", live, draw=0.5, fill=lambda _: fill, **options)


@pytest.mark.parametrize(
    ("budget_ms", "fill", "chosen", "billing", "miss"),
    [
        (150.0, 0.4, "gru-1", Tier.REGIONAL, False),
        (150.0, 0.8, "scl-1", Tier.REGIONAL, False),
        (90.0, 0.4, "gru-1", Tier.CENTRAL, True),
    ],
)
def test_worked_example_of_the_design(budget_ms, fill, chosen, billing, miss):
    """Edge 96 ms for 12, regional 141 for 11, central 205 for 10; the default tier is central."""
    placement = placed(three_tiers(), request(budget_left_ms=budget_ms), fill=fill)
    assert placement.chosen.node.id == chosen
    assert placement.serving_tier is placement.chosen.pop.tier
    assert placement.billing_tier is billing
    assert placement.predicted_miss is miss
    assert len(placement.candidates) == 3


def test_fill_ratio_zero_places_by_price_alone():
    placement = placed(three_tiers(), request(), fill=0.0, edge_fill_ratio=0.0)
    assert placement.chosen.node.id == "scl-1"


def test_replacement_never_returns_to_a_tried_target():
    fleet, tried = three_tiers(), frozenset({"gru-1"})
    assert placed(fleet, request(), excluded=tried).chosen.node.id == "scl-1"
    tried |= {"scl-1"}
    assert placed(fleet, request(), excluded=tried).chosen.node.id == "iad-1"
    with pytest.raises(NoReplica, match="tried already") as raised:
        placed(fleet, request(), excluded=tried | {"iad-1"})
    assert raised.value.retry_after_s == 1.0


def test_no_replica_anywhere_is_an_error_that_names_it():
    fleet = view(model(), deployment())
    with pytest.raises(NoReplica, match="deployed on no engine") as raised:
        placed(fleet, request())
    assert raised.value.retry_after_s == 60.0
    assert raised.value.http_status == 503


def test_no_ready_replica_is_an_error_with_a_short_time_to_retry():
    fleet = view(
        pop("IAD"), node("iad-1", "IAD"), model(), replica("iad-1", state=ReplicaState.STARTING)
    )
    with pytest.raises(NoReplica, match="not ready") as raised:
        placed(fleet, request())
    assert raised.value.retry_after_s == 5.0


def test_residency_that_leaves_nothing_is_named():
    fleet = three_tiers()
    with pytest.raises(NoReplica, match=r"residency leaves no engine.*BR"):
        placed(fleet, request(deployment(zones=("BR",))))
    with pytest.raises(NoReplica, match="no zone at all"):
        placed(fleet, request(deployment(zones=("US",)), narrowed_zones=frozenset({"BR"})))


def test_mixed_reasons_are_all_named():
    fleet = view(
        pop("IAD"),
        pop("GRU", zone="BR"),
        node("iad-1", "IAD", NodeHealth.DEAD),
        node("iad-2", "IAD", intent=NodeIntent.DRAINING),
        node("gru-1", "GRU"),
        model(),
        replica("iad-1"),
        replica("iad-2"),
        replica("gru-1"),
    )
    with pytest.raises(NoReplica, match="dead, draining, outside the allowed zones"):
        placed(fleet, request(deployment(zones=("US",))))


def test_strict_deployment_refuses_rather_than_miss():
    shape = request(deployment(strict=True), budget_left_ms=90.0)
    with pytest.raises(BudgetUnreachable, match=r"90 ms are left.*96 ms") as raised:
        placed(three_tiers(), shape)
    assert raised.value.http_status == 429
    assert raised.value.retry_after_s is not None
    assert raised.value.retry_after_s >= 1.0


def test_strict_deployment_is_served_when_something_fits():
    shape = request(deployment(strict=True), budget_left_ms=100.0)
    assert placed(three_tiers(), shape).chosen.node.id == "gru-1"


def test_prompt_longer_than_the_context_is_the_clients_mistake():
    with pytest.raises(InvalidRequest, match="8192") as raised:
        placed(three_tiers(), request(prompt_tokens=8_192))
    assert raised.value.code == "context_length_exceeded"
    assert placed(three_tiers(), request(prompt_tokens=8_191)).chosen.node.id == "gru-1"


def test_unknown_context_does_not_limit():
    fleet = view(pop("IAD"), node("iad-1", "IAD"), model(context_tokens=0), replica("iad-1"))
    assert placed(fleet, request(prompt_tokens=1_000_000)).chosen.node.id == "iad-1"


def test_a_tier_without_a_price_is_refused_rather_than_served_free():
    fleet = view(
        pop("IAD", Tier.CENTRAL),
        pop("SCL", Tier.REGIONAL),
        node("iad-1", "IAD"),
        node("scl-1", "SCL"),
        model(),
        replica("iad-1", 10.0),
        replica("scl-1", 50.0),
        price(Tier.REGIONAL, 11),
    )
    assert placed(fleet, request()).chosen.node.id == "scl-1"
    with pytest.raises(NoReplica, match="without a price on the card"):
        placed(fleet, request(), excluded=frozenset({"scl-1"}))


def test_a_report_of_the_nodes_own_agent_overrides_the_table():
    fleet = three_tiers()
    down = lookup({"gru-1": target(ready_models=())}, default=target())
    assert placed(fleet, request(), down).chosen.node.id == "scl-1"
    fleet = view(
        pop("IAD"), node("iad-1", "IAD"), model(), replica("iad-1", state=ReplicaState.STARTING)
    )
    up = lookup({"iad-1": target(ready_models=(MODEL,))})
    assert placed(fleet, request(), up).chosen.node.id == "iad-1"
