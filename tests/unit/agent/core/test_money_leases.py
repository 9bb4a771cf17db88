"""What a request may cost at most, and when its cost is settled."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.core.money_leases import NO_RECORD, CostBound, UnsettledRecords, cost_bound
from agent.core.quota_lease import Lease
from agent.core.usage_bounds import TEMPLATE_TOKENS, AskedTokens
from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.pricing import Usage, cost_of, surcharged
from protos.domain.quota import QuotaKind, QuotaName
from protos.domain.resources import CardTerms, Price, SlaTier, Tier
from tests.support.fleets import deployment
from tests.support.request_world import fleet


def priced(*prices: Price, terms: CardTerms | None = None) -> FleetView:
    rows = (*prices, *((terms,) if terms else ()))
    return with_changes(fleet({"near": 20.0}), tuple(fleet({"near": 20.0}).prices.values()), rows)


def money() -> Lease:
    lease = Lease(QuotaName(QuotaKind.MONEY, "acme"), 0, 0.0)
    lease.granted = 1_000
    return lease


def test_the_bound_is_at_the_dearest_tier_for_the_longest_prompt_and_all_answers() -> None:
    view = fleet({"near": 20.0})
    of = deployment()
    asked = AskedTokens(100, 8_192, sequences=3, max_tokens=50)
    bound = cost_bound(view, of, asked)
    model = view.models[of.model]
    prices = [view.prices[model.size_class, tier] for tier in Tier]
    dearest_prompt = max(one.prompt_nano_usd_per_token for one in prices)
    dearest_answer = max(one.completion_nano_usd_per_token for one in prices)
    assert bound.prompt_nano_usd == (100 + TEMPLATE_TOKENS + 8) * dearest_prompt
    assert bound.nano_usd == bound.prompt_nano_usd + 150 * dearest_answer


def test_without_max_tokens_the_context_bounds_an_answer_and_embeddings_have_none() -> None:
    view, of = fleet({"near": 20.0}), deployment()
    assert cost_bound(view, of, AskedTokens(100, 8_192)).tokens == 8_192
    assert cost_bound(view, of, AskedTokens(100, 8_192, embeds=True)).tokens == 0


def test_a_model_without_a_price_costs_nothing() -> None:
    assert cost_bound(FleetView(), deployment(), AskedTokens(100, 8_192)).nano_usd == 0


@given(
    st.integers(0, 8_000),
    st.integers(0, 500),
    st.sampled_from(list(Tier)),
    st.sampled_from(list(SlaTier)),
    st.booleans(),
)
def test_no_bill_exceeds_the_bound(
    prompt: int, completion: int, tier: Tier, sla: SlaTier, pinned: bool
) -> None:
    view, of = fleet({"near": 20.0}), deployment()
    asked = AskedTokens(8_000, 8_192, sequences=1, max_tokens=500)
    bound = cost_bound(view, of, asked)
    price = view.prices[view.models[of.model].size_class, tier]
    terms = view.card.get("terms")
    if terms is not None:
        price = surcharged(price, terms, of.sla_tier, pinned=pinned)
    assert cost_of(Usage(prompt, 0, completion), price).total_nano_usd <= bound.nano_usd


def test_which_max_tokens_would_fit() -> None:
    bound = CostBound(100, 10, 2, 1_000)
    assert bound.tokens_within(99) == 0
    assert bound.tokens_within(500) == 20
    assert bound.tokens_within(10**9) == 1_000
    assert CostBound(100, 0, 1, 50).tokens_within(100) == 50


def test_a_cost_is_held_until_the_coordinator_has_counted_its_record() -> None:
    lease, unsettled = money(), UnsettledRecords()
    lease.take(400)
    lease.take(400)
    unsettled.ended(lease, 400, 150, 0)
    unsettled.ended(lease, 400, 250, 1)
    assert (lease.granted, lease.in_use, len(unsettled)) == (1_000, 400, 2)
    unsettled.counted(0)
    assert (lease.granted, lease.in_use) == (850, 250)
    unsettled.counted(1)
    unsettled.counted(1)
    assert (lease.granted, lease.in_use, len(unsettled)) == (600, 0, 0)


def test_a_record_that_is_counted_before_its_request_has_ended_is_settled_at_once() -> None:
    lease, unsettled = money(), UnsettledRecords()
    lease.take(400)
    unsettled.counted(7)
    unsettled.ended(lease, 400, 150, 7)
    assert (lease.granted, lease.in_use, len(unsettled)) == (850, 0, 0)


def test_what_no_record_counts_is_not_held() -> None:
    lease, unsettled = money(), UnsettledRecords()
    lease.take(400)
    unsettled.ended(lease, 400, 0, NO_RECORD)
    assert (lease.granted, lease.in_use, len(unsettled)) == (1_000, 0, 0)
