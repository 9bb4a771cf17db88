"""The router never picks a dead, draining, forbidden or incapable target, retries included."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protos.domain.choice import EDGE_SPARE_RATIO, in_time_ratio
from protos.domain.errors import BudgetUnreachable, EdgeForgeError, InvalidRequest, NoReplica
from protos.domain.pricing import rate_nano_usd_per_1k_tokens
from protos.domain.resources import Tier
from protos.domain.router import explain, place
from tests.support.fleets import MODEL
from tests.support.naive_router import is_open, may_serve
from tests.support.strategies import NODE_IDS, draws, fills, fleets, lookups, requests

ratios = st.sampled_from([0.0, 0.7, 1.0])


def too_long(view, shape):
    model = view.models.get(MODEL)
    return model is not None and 0 < model.context_tokens <= shape.prompt_tokens


@given(fleets(), requests(), lookups, fills, draws, ratios, st.sampled_from(NODE_IDS))
def test_every_attempt_goes_to_a_target_that_may_serve(
    view, shape, live, fill, draw, ratio, self_node_id
):
    """Attempts are made until no target is left, as after failures before the first byte."""
    excluded: frozenset[str] = frozenset()
    retry_after_s: float | None = None
    for _ in range(len(NODE_IDS) + 1):
        allowed = {
            node_id
            for node_id in NODE_IDS
            if may_serve(view, shape, node_id, live[node_id], excluded)
        }
        try:
            placement = place(
                view,
                shape,
                self_node_id,
                live.__getitem__,
                draw=draw,
                fill=fill.__getitem__,
                edge_fill_ratio=ratio,
                excluded=excluded,
            )
        except InvalidRequest:
            assert too_long(view, shape)
            return
        except NoReplica as refused:
            retry_after_s = refused.retry_after_s
            break
        except BudgetUnreachable:
            assert shape.deployment.strict
            assert allowed
            return
        assert not too_long(view, shape)
        assert {each.node.id for each in placement.candidates} == allowed
        assert placement.chosen.node.id in allowed
        excluded |= {placement.chosen.node.id}
    assert not allowed
    assert retry_after_s is not None
    assert retry_after_s > 0.0


def placed(view, shape, live, fill, draw, ratio):
    try:
        return place(
            view,
            shape,
            NODE_IDS[0],
            live.__getitem__,
            draw=draw,
            fill=fill.__getitem__,
            edge_fill_ratio=ratio,
        )
    except EdgeForgeError:
        return None


def in_time_share(told, budget_ms):
    return in_time_ratio(told.ttft_ms_p50, told.p95_ms, told.ttft_ms_p99, budget_ms)


@given(fleets(), requests(), lookups, fills, draws, ratios)
def test_budget_places_fill_and_price_decide_in_that_order(view, shape, live, fill, draw, ratio):
    placement = placed(view, shape, live, fill, draw, ratio)
    if placement is None:
        return
    chosen = placement.chosen
    fitting = [each for each in placement.candidates if each.fits]
    assert placement.predicted_miss is (not fitting)
    assert placement.serving_tier is chosen.pop.tier
    if not fitting:
        ratios = [
            in_time_share(each.prediction, shape.budget_left_ms) for each in placement.candidates
        ]
        assert in_time_share(chosen.prediction, shape.budget_left_ms) == max(ratios)
        assert not shape.deployment.strict
        return
    assert chosen.fits
    assert chosen.prediction.ttft_ms_p99 <= shape.budget_left_ms
    cheapest = min(each.price_nano_usd_per_1k_tokens for each in fitting)
    assert placement.billing_tier in {
        each.pop.tier for each in fitting if each.price_nano_usd_per_1k_tokens == cheapest
    }
    open_to = [
        each for each in fitting if is_open(each.headroom, each.replica.profile.max_parallel, shape)
    ]
    spare = EDGE_SPARE_RATIO[shape.deployment.sla_tier]
    unfilled = [
        each
        for each in open_to or fitting
        if each.pop.tier is Tier.EDGE
        and each.cold is None
        and fill[each.node.id] < ratio
        and each.headroom > spare * each.replica.profile.max_parallel
    ]
    pool = unfilled or open_to or fitting
    assert chosen in pool
    assert chosen.price_nano_usd_per_1k_tokens == min(
        each.price_nano_usd_per_1k_tokens for each in pool
    )


@given(fleets(), requests(), lookups, fills, draws, ratios)
def test_billing_is_never_above_serving(view, shape, live, fill, draw, ratio):
    placement = placed(view, shape, live, fill, draw, ratio)
    model = view.models.get(MODEL)
    if placement is None or model is None:
        return
    serving = view.prices.get((model.size_class, placement.serving_tier))
    billing = view.prices.get((model.size_class, placement.billing_tier))
    if serving is not None and billing is not None:
        assert rate_nano_usd_per_1k_tokens(billing) <= rate_nano_usd_per_1k_tokens(serving)


@given(fleets(), requests(), lookups, fills, draws, draws, ratios)
def test_fill_and_chance_never_change_the_billed_tier(view, shape, live, fill, a, b, ratio):
    first = placed(view, shape, live, fill, a, ratio)
    second = placed(view, shape, live, dict.fromkeys(NODE_IDS, 1.0), b, 0.0)
    if first is not None and second is not None and not first.predicted_miss:
        assert first.billing_tier is second.billing_tier


@given(fleets(), requests(), lookups, fills, draws, ratios)
def test_explanations_cover_every_replica_and_agree_with_placement(
    view, shape, live, fill, draw, ratio
):
    placement = placed(view, shape, live, fill, draw, ratio)
    told = explain(
        view,
        shape,
        NODE_IDS[0],
        live.__getitem__,
        draw=draw,
        fill=fill.__getitem__,
        edge_fill_ratio=ratio,
    )
    assert {line.node_id for line in told.candidates} == set(view.replicas.get(MODEL, {}))
    assert all(line.verdict for line in told.candidates)
    winners = [line.node_id for line in told.candidates if line.chosen]
    assert winners == ([] if placement is None else [placement.chosen.node.id])
    assert told.summary.startswith("refused: ") is (placement is None)
    for line in told.candidates:
        if line.prediction is not None:
            total_ms = sum(term.value_ms for term in line.prediction.terms())
            assert abs(total_ms - line.prediction.ttft_ms_p99) <= 1e-6 * (1.0 + total_ms)
            assert line.prediction.ttft_ms_p50 <= line.prediction.ttft_ms_p99
