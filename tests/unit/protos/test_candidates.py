"""Hard filters one by one, and the figures of candidates."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protos.domain import geo
from protos.domain.candidates import gather
from protos.domain.errors import InvalidRequest, NoReplica
from protos.domain.fleet_view import with_changes
from protos.domain.load_term import ColdPath, ColdWay
from protos.domain.offers import UNPRICED_NANO_USD_PER_1K_TOKENS, Filter, Rejected
from protos.domain.refusals import no_replica
from protos.domain.resources import (
    Adapter,
    NextVersion,
    NodeHealth,
    NodeIntent,
    ReplicaState,
    Residency,
    Tier,
)
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


def gathered(fleet, shape=None, live=None, *, via="iad-1", excluded=frozenset()):
    rejected: list[Rejected] = []
    live = live or lookup({}, default=target())
    found = gather(fleet, shape or request(), via, live, excluded, rejected)
    assert found == gather(fleet, shape or request(), via, live, excluded)
    return found, [line.filter for line in rejected]


def one(health=NodeHealth.READY, intent=NodeIntent.ACTIVE, state=ReplicaState.READY):
    return view(
        pop("IAD"), node("iad-1", "IAD", health, intent), model(), replica("iad-1", state=state)
    )


@pytest.mark.parametrize("health", [NodeHealth.READY, NodeHealth.SUSPECT])
def test_a_suspect_node_still_serves(health):
    found, rejected = gathered(one(health))
    assert len(found) == 1
    assert rejected == []


@pytest.mark.parametrize(
    ("health", "expected"),
    [(NodeHealth.DEAD, Filter.DEAD), (NodeHealth.UNROUTABLE, Filter.UNROUTABLE)],
)
def test_unhealthy_nodes_never_serve(health, expected):
    assert gathered(one(health)) == ([], [expected])


@pytest.mark.parametrize(
    ("intent", "expected"),
    [(NodeIntent.DRAINING, Filter.DRAINING), (NodeIntent.RETIRED, Filter.RETIRED)],
)
def test_draining_and_retired_nodes_never_serve(intent, expected):
    assert gathered(one(intent=intent)) == ([], [expected])


def test_a_cordoned_node_keeps_serving():
    assert len(gathered(one(intent=NodeIntent.CORDONED))[0]) == 1


@pytest.mark.parametrize(
    "state", sorted(set(ReplicaState) - {ReplicaState.READY, ReplicaState.COLD})
)
def test_replicas_that_are_not_ready_never_serve(state):
    assert gathered(one(state=state)) == ([], [Filter.NOT_READY])


def test_ejected_and_tried_targets_never_serve():
    ejected = lookup({"iad-1": target(ejected=True)})
    assert gathered(one(), live=ejected) == ([], [Filter.EJECTED])
    assert gathered(one(), excluded=frozenset({"iad-1"})) == ([], [Filter.TRIED])


def test_an_adapter_is_never_served_by_its_bare_base():
    assert gathered(one(), request(deployment(adapter="acme/fr@1"))) == ([], [Filter.ADAPTER])


def test_nodes_and_pops_missing_from_the_table_never_serve():
    orphan = view(model(), replica("iad-1"))
    assert gathered(orphan) == ([], [Filter.TOPOLOGY])
    homeless = view(node("iad-1", "IAD"), model(), replica("iad-1"))
    assert gathered(homeless) == ([], [Filter.TOPOLOGY])


def test_residency_filters_by_the_zone_of_the_pop():
    fleet = view(
        pop("IAD", zone="US"),
        pop("GRU", zone="BR"),
        node("iad-1", "IAD"),
        node("gru-1", "GRU"),
        model(),
        replica("iad-1"),
        replica("gru-1"),
    )
    found, rejected = gathered(fleet, request(deployment(zones=("BR",))))
    assert [each.node.id for each in found] == ["gru-1"]
    assert rejected == [Filter.RESIDENCY]


def test_candidate_carries_price_headroom_and_fit():
    fleet = view(
        pop("IAD", Tier.CENTRAL),
        node("iad-1", "IAD"),
        model(),
        replica("iad-1", 40.0, max_parallel=4),
        price(Tier.CENTRAL, 10),
    )
    live = lookup({"iad-1": target(in_flight=2, queued=1)})
    (candidate,), _ = gathered(fleet, request(budget_left_ms=40.0), live)
    assert candidate.price == price(Tier.CENTRAL, 10)
    assert candidate.price_nano_usd_per_1k_tokens == 20_000
    assert candidate.headroom == 1
    assert candidate.prediction.ttft_ms_p99 == pytest.approx(40.0)
    assert candidate.fits
    (late,), _ = gathered(fleet, request(budget_left_ms=39.9), live)
    assert not late.fits
    (full,), _ = gathered(fleet, request(), lookup({"iad-1": target(in_flight=9)}))
    assert full.headroom == 0


def test_a_model_missing_from_the_registry_is_unpriced_and_not_served():
    fleet = view(pop("IAD"), node("iad-1", "IAD"), replica("iad-1"), price(Tier.EDGE, 10))
    found, rejected = gathered(fleet)
    assert found == []
    assert rejected == [Filter.UNPRICED]


def test_a_tier_that_the_card_does_not_name_is_not_served_free():
    fleet = view(
        pop("IAD"), model(), node("iad-1", "IAD"), replica("iad-1"), price(Tier.CENTRAL, 10)
    )
    found, rejected = gathered(fleet)
    assert found == []
    assert rejected == [Filter.UNPRICED]


def test_a_fleet_without_any_price_card_serves_and_bills_nothing():
    fleet = view(pop("IAD"), model(), node("iad-1", "IAD"), replica("iad-1"))
    (candidate,), _ = gathered(fleet)
    assert candidate.price is None
    assert candidate.price_nano_usd_per_1k_tokens == UNPRICED_NANO_USD_PER_1K_TOKENS


def test_never_measured_target_is_estimated_from_its_distance():
    sao_paulo, virginia = (-23.55, -46.63), (38.95, -77.45)
    fleet = view(
        pop("GRU", at=sao_paulo),
        pop("IAD", at=virginia),
        node("gru-1", "GRU"),
        node("iad-1", "IAD"),
        model(),
        replica("iad-1"),
        replica("gru-1"),
    )
    found, _ = gathered(fleet, live=lookup({}), via="gru-1")
    rtt_ms = {each.node.id: each.prediction.terms()[0].value_ms for each in found}
    distance_km = geo.great_circle_km(*sao_paulo, *virginia)
    assert rtt_ms["gru-1"] == 0.0, "our own engine is not on the network"
    assert geo.prior_rtt_ms_p50(distance_km) < rtt_ms["iad-1"]
    assert rtt_ms["iad-1"] <= geo.prior_rtt_ms_p99(distance_km)


def test_an_agent_whose_own_pop_is_unknown_assumes_the_farthest_distance():
    found, _ = gathered(one(), live=lookup({}), via="stranger")
    assert found[0].prediction.ttft_ms_p50 > geo.prior_rtt_ms_p50(20_000.0)


def test_our_own_engine_ignores_a_measured_round_trip():
    live = lookup({}, default=target(250.0))
    near, far = gathered(one(), live=live)[0], gathered(one(), live=live, via="gru-1")[0]
    assert near[0].prediction.ttft_ms_p99 < far[0].prediction.ttft_ms_p99 - 200.0


def test_rtt_without_a_p99_counts_as_steady():
    steady = target(20.0)

    live = lookup({"iad-1": replace(steady, rtt_ms_p99=None)})
    same = lookup({"iad-1": steady})
    (found,), _ = gathered(one(), live=live, via="x")
    (expected,), _ = gathered(one(), live=same, via="x")
    assert found.prediction == expected.prediction


def test_an_engine_of_the_other_kind_is_no_candidate_and_alone_it_is_the_clients_mistake():
    embedding = replace(replica("iad-1"), profile=replace(replica("iad-1").profile, embeds=True))
    fleet = view(pop("IAD"), node("iad-1", "IAD"), model(), embedding)
    assert gathered(fleet) == ([], [Filter.MODE])
    (found,), _ = gathered(fleet, replace(request(), embeds=True))
    assert found.node.id == "iad-1"
    line = Rejected("iad-1", embedding, None, Filter.MODE)
    with pytest.raises(InvalidRequest, match="gives embeddings"):
        raise no_replica(request(), [line])
    with pytest.raises(InvalidRequest, match="gives no embeddings"):
        raise no_replica(replace(request(), embeds=True), [line])
    other = Rejected("gru-1", replica("gru-1"), None, Filter.NOT_READY)
    assert isinstance(no_replica(request(), [line, other]), NoReplica)


def test_an_engine_without_a_parser_is_no_candidate_when_the_model_may_call_a_tool():
    plain = replica("iad-1")
    lacking = replace(plain, profile=replace(plain.profile, lacks_tool_parser=True))
    fleet = view(pop("IAD"), node("iad-1", "IAD"), model(), lacking)
    asked = replace(request(), needs_tool_parser=True)
    assert gathered(fleet, asked) == ([], [Filter.TOOLS])
    (found,), _ = gathered(fleet, request())
    assert found.node.id == "iad-1"
    line = Rejected("iad-1", lacking, None, Filter.TOOLS)
    refused = no_replica(asked, [line])
    assert isinstance(refused, InvalidRequest)
    assert "engine.tool_parser" in refused.hint
    other = Rejected("gru-1", plain, None, Filter.EJECTED)
    assert isinstance(no_replica(asked, [line, other]), NoReplica)


def test_an_engine_with_a_shorter_context_than_the_prompt_is_no_candidate():
    short = replica("iad-1")
    short = replace(short, profile=replace(short.profile, context_tokens=2_048))
    places = [pop("IAD"), node("iad-1", "IAD"), node("iad-2", "IAD"), model()]
    fleet = view(*places, short, replica("iad-2"))
    found, filters = gathered(fleet, request(prompt_tokens=2_048))
    assert [one.node.id for one in found] == ["iad-2"]
    assert filters == [Filter.CONTEXT]
    found, filters = gathered(fleet, request(prompt_tokens=2_047))
    assert {one.node.id for one in found} == {"iad-1", "iad-2"}
    assert filters == []


def test_tokens_expected_in_a_targets_cache_are_not_predicted_as_prefill():
    fleet = view(pop("GRU"), node("gru-1", "GRU"), model(), replica("gru-1"))
    slow = replace(fleet.replicas[model().name]["gru-1"].profile, prefill_ms_per_token=1.0)
    fleet.replicas[model().name]["gru-1"] = replace(replica("gru-1"), profile=slow)

    def predicted_ms(cached_ratio):
        state = replace(target(), cached_ratio=cached_ratio)
        asked = request(prompt_tokens=100)
        (found,) = gather(fleet, asked, "gru-1", lookup({"gru-1": state}), frozenset())
        return found.prediction.ttft_ms_p99

    assert predicted_ms(0.0) - predicted_ms(0.75) == pytest.approx(75.0)


FR = "acme/fr@1"
WITH_FR = replace(deployment(adapter=FR), ttft_budget_ms=1_000)


def adapter_at(node_id, state=ReplicaState.COLD, residency=Residency.DISK):
    return replace(replica(node_id, state=state), adapter=FR, residency=residency)


def ask_fr(fleet, live=None):
    return gathered(fleet, request(WITH_FR, budget_left_ms=1_000.0), live)


def with_rows(fleet, *rows):
    return with_changes(fleet, (), (Adapter(FR, MODEL, 8, 1_000_000, b"a" * 32), *rows))


def test_an_adapter_in_the_engine_costs_no_load():
    (found,), rejected = ask_fr(with_rows(one(), adapter_at("iad-1", ReplicaState.READY)))
    (base,), _ = gathered(one())
    assert (found.cold, rejected) == (None, [])
    assert found.ttft_ms_p99 == base.ttft_ms_p99


def test_an_adapter_that_a_node_may_load_is_a_candidate_with_a_load_term():
    (found,), _ = ask_fr(with_rows(one(), adapter_at("iad-1")))
    (base,), _ = gathered(one())
    assert found.cold is not None
    assert found.cold.way == ColdWay(ColdPath.ADAPTER, Residency.DISK)
    assert found.ttft_ms_p99 == base.ttft_ms_p99 + found.cold.p99_ms
    terms = dict(found.prediction.terms())
    assert terms["load"] == found.cold.p99_ms
    assert sum(terms.values()) == pytest.approx(found.ttft_ms_p99)
    assert found.lower_quantiles_ms[0] < found.ttft_ms_p99


def test_the_nodes_report_overrides_the_tables_rows_of_an_adapter():
    fleet = with_rows(one(), adapter_at("iad-1"))
    there = lookup({"iad-1": target(ready_models=[MODEL, FR])})
    (found,), _ = ask_fr(fleet, there)
    assert found.cold is None
    says = replace(target(ready_models=[MODEL]), loadable={})
    assert ask_fr(fleet, lookup({"iad-1": says})) == ([], [Filter.NOT_READY])
    assert ask_fr(one(), lookup({"iad-1": says})) == ([], [Filter.ADAPTER])
    way = ColdWay(ColdPath.ADAPTER, Residency.PEER)
    loads = replace(target(ready_models=[MODEL]), loadable={FR: way})
    (found,), _ = ask_fr(one(), lookup({"iad-1": loads}))
    assert found.cold is not None
    assert found.cold.way == way


def test_an_agent_that_reports_nothing_loadable_is_judged_by_the_table():
    fleet = with_rows(one(), adapter_at("iad-1"))
    (found,), _ = ask_fr(fleet, lookup({"iad-1": target(ready_models=[MODEL])}))
    assert found.cold is not None


def test_an_adapter_that_is_still_pulled_is_not_ready():
    fleet = with_rows(one(), adapter_at("iad-1", ReplicaState.PULLING))
    assert ask_fr(fleet) == ([], [Filter.NOT_READY])
    starting = with_rows(one(state=ReplicaState.STARTING), adapter_at("iad-1"))
    assert ask_fr(starting) == ([], [Filter.NOT_READY])


def test_a_deployment_for_embeddings_never_has_an_adapter():
    fleet = with_rows(one(), adapter_at("iad-1", ReplicaState.READY))
    embeds = replace(fleet.replicas[MODEL]["iad-1"], profile=replace(profile(), embeds=True))
    shape = replace(request(WITH_FR), embeds=True)
    assert gathered(with_changes(fleet, (), (embeds,)), shape) == ([], [Filter.ADAPTER])


def test_a_cold_model_takes_the_place_of_one_of_its_shape_or_an_engine_is_started():
    cold = one(state=ReplicaState.COLD)
    (found,), _ = gathered(cold)
    assert found.cold is not None
    assert found.cold.way.path is ColdPath.ENGINE
    other = replace(model("acme/tuned@1"), swap_key=b"k")
    rows = (replace(model(), swap_key=b"k"), other, replica("iad-1", model="acme/tuned@1"))
    (found,), _ = gathered(with_changes(cold, (), rows))
    assert found.cold is not None
    assert found.cold.way.path is ColdPath.SWAP


def test_an_adapter_whose_base_is_cold_waits_for_the_base():
    fleet = with_rows(one(state=ReplicaState.COLD), adapter_at("iad-1", residency=Residency.ORIGIN))
    (found,), _ = ask_fr(fleet)
    assert found.cold is not None
    assert found.cold.way == ColdWay(ColdPath.ENGINE, Residency.ORIGIN)


@pytest.mark.parametrize(("percent", "nodes"), [(0, {"a", "b"}), (20, {"a", "b"}), (19, {"b"})])
def test_a_target_over_the_premium_of_its_deployment_is_no_candidate(percent, nodes):
    tiers = {"a": Tier.EDGE, "b": Tier.CENTRAL}
    rows = [row for name, tier in tiers.items() for row in (pop(name, tier), node(name, name))]
    rates = (price(Tier.EDGE, 12), price(Tier.CENTRAL, 10))
    fleet = view(*rows, model(), replica("a"), replica("b"), *rates)
    limited = request(replace(deployment(), max_premium_percent=percent))
    found, rejected = gathered(fleet, limited)
    assert {each.node.id for each in found} == nodes
    assert rejected == [Filter.PREMIUM] * (2 - len(nodes))


def test_a_card_without_a_central_rate_limits_no_premium():
    fleet = with_changes(one(), (), (price(Tier.EDGE, 12),))
    found, _ = gathered(fleet, request(replace(deployment(), max_premium_percent=1)))
    assert len(found) == 1


def test_no_request_is_served_by_what_its_deployment_is_changed_to():
    coming = replace(model(), name="acme/next@1")
    rows = (pop("b", Tier.CENTRAL), node("b", "b"), coming, replica("b", model="acme/next@1"))
    fleet = with_changes(one(), (), rows)
    changing = replace(deployment(), next=NextVersion("acme/next@1", ""))
    found, _ = gathered(fleet, request(changing))
    assert {each.node.id for each in found} == {"iad-1"}
    assert {each.node.id for each in gathered(fleet, request())[0]} == {"iad-1"}
