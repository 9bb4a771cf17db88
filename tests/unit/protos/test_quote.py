"""Replayed placements: by hand, by outcome, by quantiles, and against the router itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.domain.pricing import Usage
from protos.domain.quote import is_replayable, quote, replay
from protos.domain.resources import CardTerms, SlaTier, Tier
from protos.domain.router import place
from protos.domain.trace import TraceCandidate
from tests.support import traces
from tests.support.fleets import (
    MODEL,
    deployment,
    lookup,
    model,
    price,
    request,
    target,
    three_tiers,
    view,
)

USAGE = Usage(prompt_tokens=100, cached_tokens=0, completion_tokens=50)
TERMS = CardTerms(1, realtime_percent=10, interactive_percent=5, residency_percent=10)
FLEET = three_tiers()


def candidate(node_id: str, tier: Tier, ttft_ms_p99: float, **changes: object) -> TraceCandidate:
    return traces.candidate(
        node_id, tier, ttft_ms_p50=ttft_ms_p99 / 2, ttft_ms_p99=ttft_ms_p99, **changes
    )


def recorded(*, chosen: str = "gru-1", felt_ms: float | None = 60.0, left_ms=150.0, **changes):
    """A stream of the design's example: edge fits at 96, regional at 141, central at 205."""
    candidates = tuple(
        candidate(node_id, tier, p99_ms, chosen=node_id == chosen)
        for node_id, tier, p99_ms in (
            ("gru-1", Tier.EDGE, 96.0),
            ("scl-1", Tier.REGIONAL, 141.0),
            ("iad-1", Tier.CENTRAL, 205.0),
        )
    )
    made = traces.trace(
        deployment="small",
        model=MODEL,
        budget_ms=150.0,
        last_mile_ms=0.0,
        first_token_ms=felt_ms,
        stream=felt_ms is not None,
        usage=USAGE,
    )
    attempt = replace(made.attempts[0], candidates=candidates, budget_left_ms=left_ms)
    return replace(replace(made, attempts=(attempt,)), **changes)


def replayed(trace, budget_ms, of=None, *, pinned=False, fleet=FLEET):
    return replay(fleet, of or deployment(), trace, budget_ms, pinned=pinned)


@pytest.mark.parametrize(
    ("budget_ms", "tier", "miss"),
    [
        (90.0, Tier.CENTRAL, True),  # nothing fits: the cheaper of serving and default
        (96.0, Tier.EDGE, False),
        (150.0, Tier.REGIONAL, False),
        (300.0, Tier.CENTRAL, False),
    ],
)
def test_the_billing_tier_is_that_of_the_design_s_example(budget_ms, tier, miss):
    done = replayed(recorded(), budget_ms)
    assert (done.tier, done.predicted_miss) == (tier, miss)
    rate = {Tier.EDGE: 12, Tier.REGIONAL: 11, Tier.CENTRAL: 10}[tier]
    assert done.nano_usd == 150 * rate


def test_what_had_passed_when_the_target_was_chosen_is_missing_from_other_budgets_too():
    late = recorded(left_ms=140.0)  # 10 of 150 ms had passed
    assert replayed(late, 151.0).tier is Tier.REGIONAL
    assert replayed(late, 150.0).tier is Tier.EDGE


def test_a_recorded_target_that_is_chosen_again_keeps_its_outcome():
    done = replayed(recorded(felt_ms=120.0), 150.0)
    assert (done.observed, done.in_time) == (True, 1.0)
    done = replayed(recorded(felt_ms=151.0), 150.0)
    assert (done.observed, done.in_time) == (True, 0.0)


def test_the_last_mile_counts_in_the_outcome():
    done = replayed(recorded(felt_ms=120.0, last_mile_ms=31.0), 150.0)
    assert done.in_time == 0.0


def test_another_target_is_judged_by_its_quantiles():
    served_by_central = recorded(chosen="iad-1")
    done = replayed(served_by_central, 150.0)  # regional: it fits, and edges were not preferred
    assert (done.tier, done.observed, done.in_time) == (Tier.REGIONAL, False, 0.99)
    done = replayed(served_by_central, 50.0)  # between P50 and P99 of the edge
    assert done.predicted_miss
    assert 0.5 < done.in_time < 0.99


def test_an_answer_that_is_no_stream_has_a_cost_and_no_share():
    done = replayed(recorded(felt_ms=None), 150.0)
    assert done.nano_usd > 0
    assert done.in_time is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["gru-1", "scl-1", "iad-1"]),
            st.one_of(st.none(), st.floats(1.0, 400.0)),
        ),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([96.0, 150.0, 300.0]),
)
def test_a_line_is_what_its_requests_come_to_one_by_one(requests, budget_ms):
    """An oracle by hand: who serves, what it costs, who was in time; shares are of streams."""
    traced = [recorded(chosen=node_id, felt_ms=felt_ms) for node_id, felt_ms in requests]
    (line,) = quote(FLEET, deployment(), traced, [budget_ms], pinned=False)
    fits = [one for one in _EXAMPLE if one[1] <= budget_ms]
    rate = min(one[2] for one in fits)
    cheapest = next(one[0] for one in fits if one[2] == rate)
    kept = observed = streams = 0.0
    for node_id, felt_ms in requests:
        if felt_ms is None:
            continue
        streams += 1
        serving = "gru-1" if node_id == "gru-1" else cheapest
        observed += serving == node_id
        kept += felt_ms <= budget_ms if serving == node_id else 0.99
    assert (line.requests, line.streams, line.observed) == (len(requests), streams, observed)
    assert line.kept == pytest.approx(kept)
    assert line.kept_ratio == pytest.approx(kept / streams if streams else 0.0)
    assert line.costs_nano_usd == [150 * rate] * len(requests)
    assert line.nano_usd_per_million_tokens == rate * 1_000_000
    assert line.predicted_misses == 0


#: node, P99, nano-USD a token
_EXAMPLE = (("gru-1", 96.0, 12), ("scl-1", 141.0, 11), ("iad-1", 205.0, 10))


def test_a_strict_deployment_refuses_what_cannot_be_in_time():
    (line,) = quote(FLEET, deployment(strict=True), [recorded()], [50.0], pinned=False)
    assert (line.refused, line.requests, line.total_nano_usd) == (1, 0, 0)


def test_surcharges_of_the_sla_tier_and_of_residency_are_in_the_cost():
    fleet = view(*_rows(), TERMS)
    of = deployment(sla_tier=SlaTier.REALTIME)
    # 11 and a fifth more is 13.2, rounded to 13
    assert replayed(recorded(), 150.0, of, pinned=True, fleet=fleet).nano_usd == 150 * 13


def test_a_tier_that_has_no_price_now_is_no_candidate():
    fleet = view(model(), price(Tier.EDGE, 12))
    assert replayed(recorded(), 300.0, fleet=fleet).tier is Tier.EDGE
    assert replayed(
        recorded(), 300.0, fleet=view(model(), price(Tier.EDGE, 12, size_class="m"))
    ) is (None)


def test_a_cold_edge_is_not_preferred():
    made = recorded(chosen="gru-1")
    attempt = made.attempts[0]
    cold = replace(
        attempt.candidates[0],
        term_names=("rtt", "load"),
        term_values_ms=(6.0, 90.0),
    )
    changed = replace(attempt, candidates=(cold, *attempt.candidates[1:]))
    done = replayed(replace(made, attempts=(changed,)), 150.0)
    assert (done.tier, done.observed) == (Tier.REGIONAL, False)


@pytest.mark.parametrize(
    "changes",
    [
        {"status": 429},
        {"model": "acme/other@1"},
        {"attempts": ()},
        {"usage": Usage(10, 0, 0)},
        {"clock_jumped": True},
    ],
)
def test_what_was_refused_failed_or_empty_is_not_replayed(changes):
    assert is_replayable(recorded(), deployment())
    assert not is_replayable(recorded(**changes), deployment())
    (line,) = quote(FLEET, deployment(), [recorded(**changes)], [150.0], pinned=False)
    assert (line.requests, line.kept_ratio, line.median_nano_usd) == (0, 0.0, 0)
    assert line.nano_usd_per_million_tokens == 0


def test_embeddings_have_no_completion_and_are_replayed():
    made = recorded(path="/v1/embeddings", usage=Usage(10, 0, 0), felt_ms=None)
    assert is_replayable(made, deployment())


def test_a_line_sums_its_requests():
    made = [recorded(usage=Usage(count, 0, 10)) for count in (10, 20, 90)]
    (line,) = quote(FLEET, deployment(), made, [300.0], pinned=False)
    assert line.requests == line.streams == 3
    assert line.total_nano_usd == 10 * (120 + 30)
    assert line.nano_usd_per_million_tokens == 10_000_000
    assert line.median_nano_usd == 10 * 30
    assert line.billed_by_tier == {"central": 3}


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Tier)), st.floats(1.0, 500.0), st.integers(1, 4)),
        min_size=1,
        max_size=8,
    ),
    st.lists(st.floats(1.0, 600.0), min_size=2, max_size=4, unique=True),
)
def test_a_looser_budget_is_never_billed_at_a_dearer_tier_and_has_no_more_misses(told, budgets):
    candidates = tuple(
        candidate(f"n-{number}", tier, p99_ms, headroom=headroom, chosen=number == 0)
        for number, (tier, p99_ms, headroom) in enumerate(told)
    )
    made = recorded()
    attempt = replace(made.attempts[0], candidates=candidates)
    made = replace(made, attempts=(attempt,))
    done = [replayed(made, budget_ms) for budget_ms in sorted(budgets)]
    fitted = [one.nano_usd for one in done if not one.predicted_miss]
    assert fitted == sorted(fitted, reverse=True)
    misses = [one.predicted_miss for one in done]
    assert misses == sorted(misses, reverse=True)


@pytest.mark.parametrize("budget_ms", [50.0, 96.0, 120.0, 150.0, 250.0])
def test_a_replay_bills_as_the_router_did(budget_ms):
    """Candidates as the router saw them, replayed at the budget that they were chosen under."""
    done = place(
        FLEET,
        request(budget_left_ms=budget_ms),
        "gru-1",
        lookup({}, default=target()),
        draw=0.0,
        fill=lambda _: 0.0,
    )
    told = tuple(
        TraceCandidate(
            one.node.id,
            one.pop.id,
            one.pop.tier,
            one.fits,
            one is done.chosen,
            one.prediction.ttft_ms_p50,
            one.ttft_ms_p99,
            one.prediction.names,
            one.prediction.values_ms,
            one.price_nano_usd_per_1k_tokens,
            one.headroom,
        )
        for one in done.candidates
    )
    made = recorded(budget_ms=budget_ms)
    attempt = replace(made.attempts[0], candidates=told, budget_left_ms=budget_ms)
    again = replayed(replace(made, attempts=(attempt,)), budget_ms)
    assert again.tier is done.billing_tier
    assert again.predicted_miss == done.predicted_miss
    assert again.observed, "the same target is chosen again"


def _rows():
    return [model(), price(Tier.EDGE, 12), price(Tier.REGIONAL, 11), price(Tier.CENTRAL, 10)]
