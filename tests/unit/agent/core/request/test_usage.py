"""What a request is billed: what is free, which tier, and its record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.core.cold_start import ColdPath
from agent.core.request.log import RequestLog
from agent.core.request.messages import Rest
from agent.core.request.usage import (
    counted_until,
    ended_as,
    is_empty,
    promised_ms,
    usage_record,
)
from protos.domain.fleet_view import with_changes
from protos.domain.pricing import Usage
from protos.domain.resources import CardTerms, Price, SlaTier, Tier
from protos.domain.usage_record import BillingReason, UsageCause, UsageRecord
from tests.support.fleets import deployment
from tests.support.request_world import (
    COLD_START,
    ONE,
    QUIET,
    THREE,
    TWO,
    RequestWorld,
    fleet,
)
from tests.support.router_states import request_context, router_state

CENTRAL_THEN_EDGE = {"near": Tier.CENTRAL, "far": Tier.EDGE}


def record_of(world: RequestWorld) -> UsageRecord:
    return usage_record(world.log, world.context, "NEAR", 0.0)


def tiers(world: RequestWorld) -> tuple[Tier | None, Tier | None, BillingReason]:
    record = record_of(world)
    return record.tier_served, record.tier_billed, record.billing_reason


# -- what is free


@pytest.mark.parametrize(
    ("usage", "given", "empty"),
    [
        (Usage(10, 0, 0), {}, True),
        (Usage(10, 0, 1), {}, False),
        (Usage(10, 0, 1), {"visible": False}, True),
        (Usage(10, 0, 2), {"visible": False}, False),
        (Usage(10, 0, 2), {"visible": False, "free_ends": 2}, True),
        (Usage(10, 0, 1), {"visible": False, "free_ends": 0}, False),
        (Usage(10, 0, 0), {"of_prompt": True}, False),
        (Usage(0, 0, 0), {"of_prompt": True}, True),
    ],
    ids=["none", "a token", "an end", "hidden", "two ends", "chosen", "of a prompt", "of nothing"],
)
def test_nothing_generated_is_free_and_an_embedding_is_billed_by_its_prompt(
    usage: Usage, given: dict[str, Any], empty: bool
) -> None:
    facts = {"of_prompt": False, "visible": True, "free_ends": 1} | given
    assert is_empty(usage, **facts) is empty


@pytest.mark.parametrize(
    ("cause", "usage", "expected"),
    [
        (UsageCause.COMPLETE, Usage(10, 0, 5), (UsageCause.COMPLETE, False)),
        (UsageCause.COMPLETE, Usage(10, 0, 0), (UsageCause.EMPTY, True)),
        (UsageCause.FAILED, Usage(10, 0, 5), (UsageCause.FAILED, True)),
        (UsageCause.CLIENT_GONE, Usage(10, 0, 5), (UsageCause.CLIENT_GONE, False)),
        (UsageCause.CLIENT_GONE, Usage(10, 0, 0), (UsageCause.CLIENT_GONE, True)),
        (UsageCause.REVOKED, Usage(10, 0, 0), (UsageCause.REVOKED, True)),
    ],
)
def test_a_cause_keeps_its_name_and_says_whether_it_costs(
    cause: UsageCause, usage: Usage, expected: tuple[UsageCause, bool]
) -> None:
    context = request_context(router_state(fleet(ONE)))
    assert ended_as(cause, usage, context, visible=True) == expected


def test_counting_tokens_is_free_because_no_engine_reports_usage_of_it() -> None:
    world = RequestWorld(fleet(ONE), stream=False)
    world.begin()
    world.whole("near", usage=None)
    record = record_of(world)
    assert (record.cause, record.nano_usd) == (UsageCause.EMPTY, 0)
    assert (record.billing_reason, record.card_version) == (BillingReason.FREE, 1)


# -- the tier


def test_a_replaced_attempt_does_not_make_its_successor_dearer() -> None:
    world = RequestWorld(fleet(TWO, CENTRAL_THEN_EDGE))
    world.begin()
    assert world.lost("near") == ["ask far"]
    world.token("far")
    world.stream_ends("far")
    assert tiers(world) == (Tier.EDGE, Tier.CENTRAL, BillingReason.CHEAPER_FITTED)


def test_a_target_that_was_cut_for_being_late_does_not_make_its_successor_dearer() -> None:
    world = RequestWorld(fleet(TWO, CENTRAL_THEN_EDGE), policy=QUIET)
    world.learned("near", 20.0)
    world.learned("far", 60.0)
    world.begin()
    assert "ask far" in world.wait(5_000.0)
    world.token("far", 10.0)
    world.stream_ends("far")
    assert tiers(world) == (Tier.EDGE, Tier.CENTRAL, BillingReason.CHEAPER_FITTED)


def test_a_second_copy_is_billed_as_the_first() -> None:
    world = RequestWorld(fleet(TWO, CENTRAL_THEN_EDGE), hedge_ratio=1.0, policy=QUIET)
    world.learned("near", 20.0)
    world.learned("far", 60.0)
    world.begin()
    world.wait(60.0)
    world.token("far", 10.0)
    world.stream_ends("far")
    assert tiers(world) == (Tier.EDGE, Tier.CENTRAL, BillingReason.CHEAPER_FITTED)


def test_a_continued_stream_is_billed_as_it_began() -> None:
    world = RequestWorld(fleet(TWO, CENTRAL_THEN_EDGE))
    world.begin()
    world.token("near")
    world.lost("near", status=200, rest=Rest.TEXT)
    world.stream_ends("far")
    record = record_of(world)
    assert record.cause is UsageCause.COMPLETE
    assert tiers(world) == (Tier.CENTRAL, Tier.CENTRAL, BillingReason.CHEAPEST)


def test_a_miss_is_billed_at_the_cheaper_of_serving_and_default_and_named() -> None:
    world = RequestWorld(fleet(ONE, {"near": Tier.EDGE}), budget_ms=5.0)
    world.begin()
    world.token("near")
    world.stream_ends("near")
    assert tiers(world) == (Tier.EDGE, Tier.CENTRAL, BillingReason.PREDICTED_MISS)
    assert record_of(world).predicted_miss


def test_a_miss_behind_a_placement_in_time_is_billed_by_that_one() -> None:
    """What the first target cost in time is not the customer's affair."""
    world = RequestWorld(fleet(TWO, CENTRAL_THEN_EDGE), budget_ms=70.0)
    world.begin()
    assert world.lost("near", 69.0) == ["ask far"]
    world.token("far")
    world.stream_ends("far")
    assert tiers(world) == (Tier.EDGE, Tier.CENTRAL, BillingReason.CHEAPER_FITTED)


def test_a_cheaper_tier_that_is_predicted_late_is_not_billed() -> None:
    world = RequestWorld(fleet({"near": 20.0, "far": 400.0}, {"near": Tier.EDGE}), budget_ms=100.0)
    world.begin()
    world.token("near")
    world.stream_ends("near")
    assert tiers(world) == (Tier.EDGE, Tier.EDGE, BillingReason.CHEAPEST)


def test_a_limit_above_central_excludes_the_edge_and_never_changes_what_is_billed() -> None:
    of = replace(deployment(), max_premium_percent=15)
    world = RequestWorld(fleet(THREE, {"near": Tier.EDGE, "far": Tier.REGIONAL}), of=of)
    assert world.begin() == ["ask last"], "the cheapest in time"
    assert world.lost("last") == ["ask far"], "12 is above the limit of 11.5"
    world.token("far")
    world.stream_ends("far")
    assert tiers(world) == (Tier.REGIONAL, Tier.CENTRAL, BillingReason.CHEAPER_FITTED)


# -- the record


def test_a_record_has_the_sum_of_its_tokens_at_its_rates() -> None:
    context = request_context(
        router_state(
            with_changes(
                fleet(ONE),
                (),
                (Price("xs", Tier.EDGE, 20, 5, 40, 7), CardTerms(7, interactive_percent=25)),
            )
        ),
        deployment=deployment(sla_tier=SlaTier.INTERACTIVE),
        key_id="k9",
        bound_zones=("BR", "EU"),
        service_tier="auto",
    )
    price = context.price(Tier.EDGE)
    assert price is not None
    assert (price.prompt_nano_usd_per_token, price.cached_nano_usd_per_token) == (25, 6)
    log = RequestLog("t", 1_700_000_000_000, "/v1/messages", 0.0)
    log.first_token_mono_ms, log.last_mile_ms, log.stream_ms = 80.4, 2.0, 90.0
    log.cause, log.status, log.node_id, log.pop_id = UsageCause.COMPLETE, 200, "gru-1", "GRU"
    log.serving_tier = log.billing_tier = Tier.EDGE
    log.billing_reason, log.price = BillingReason.CHEAPEST, price
    log.cold_start, log.cold_wait_ms = COLD_START, 17.5
    record = usage_record(log, context, "GIG", 250.0)
    assert record.began_unix_ms == 1_700_000_000_250, "by the coordinator's clock"
    assert (record.key_id, record.size_class, record.zones) == ("k9", "xs", ("BR", "EU"))
    assert (record.ttft_us, record.stream_us) == (82_400, 90_000)
    assert (record.cold_path, record.cold_us) == (str(ColdPath.ADAPTER), 17_500)
    assert (record.serving_pop, record.ingress_pop, record.service_tier) == ("GRU", "GIG", "auto")


def test_a_price_is_surcharged_once_for_each_view_and_pinned_to_it() -> None:
    view = with_changes(fleet(ONE), (), (CardTerms(1, standard_percent=10, residency_percent=20),))
    context = request_context(router_state(view))
    assert context.price(Tier.CENTRAL) is context.price(Tier.CENTRAL)
    bound = replace(context, is_pinned=True).price(Tier.CENTRAL)
    free = context.price(Tier.CENTRAL)
    assert bound is not None
    assert free is not None
    assert (free.prompt_nano_usd_per_token, bound.prompt_nano_usd_per_token) == (11, 13)
    newer = with_changes(view, (), (CardTerms(2, standard_percent=100),))
    other = request_context(router_state(newer)).price(Tier.CENTRAL)
    assert other is not None
    assert other.prompt_nano_usd_per_token == 20


def test_a_client_that_left_before_any_head_has_the_status_that_proxies_log() -> None:
    world = RequestWorld(fleet(ONE), budget_ms=1e10)
    world.begin()
    world.gone()
    record = record_of(world)
    assert (record.status, record.cause) == (499, UsageCause.CLIENT_GONE)
    assert record.budget_ms == 86_400_000, "a budget without end is a day"


@pytest.mark.parametrize(
    ("cause", "usage", "prompt_tokens"),
    [
        (UsageCause.CLIENT_GONE, Usage(0, 0, 5), 7),
        (UsageCause.REVOKED, Usage(0, 0, 5), 7),
        (UsageCause.CLIENT_GONE, Usage(9, 3, 5), 9),
        (UsageCause.CLIENT_GONE, Usage(0, 0, 0), 0),
        (UsageCause.ENGINE_LOST, Usage(0, 0, 5), 0),
        (UsageCause.CUT_SHORT, Usage(0, 0, 5), 0),
        (UsageCause.COMPLETE, Usage(0, 0, 5), 0),
    ],
)
def test_only_an_end_that_a_customer_can_choose_bills_a_prompt_that_no_engine_counted(
    cause: UsageCause, usage: Usage, prompt_tokens: int
) -> None:
    context = replace(request_context(router_state(fleet(ONE))), prompt_tokens=7)
    found = counted_until(cause, usage, context)
    assert found.prompt_tokens == prompt_tokens
    assert found.completion_tokens == usage.completion_tokens


@pytest.mark.parametrize(
    ("sla_tier", "header_ms", "deployment_ms", "promised"),
    [
        (SlaTier.STANDARD, 0.001, 500, 500.0),
        (SlaTier.STANDARD, 900.0, 500, 900.0),
        (SlaTier.STANDARD, 1.0, 1, 200.0),
        (SlaTier.INTERACTIVE, 1.0, 1, 200.0),
        (SlaTier.REALTIME, 1.0, 1, 80.0),
        (SlaTier.REALTIME, 80.0, 80, 80.0),
        (SlaTier.STANDARD, 1e12, 500, 86_400_000.0),
    ],
)
def test_no_customer_is_promised_a_time_that_it_chose_to_be_missed(
    sla_tier: SlaTier, header_ms: float, deployment_ms: int, promised: float
) -> None:
    context = request_context(router_state(fleet(ONE)))
    asked = replace(context.deployment, sla_tier=sla_tier, ttft_budget_ms=deployment_ms)
    assert promised_ms(replace(context, budget_ms=header_ms, deployment=asked)) == promised
