"""A node is believed of nothing that the fleet has not known."""

import dataclasses
import json

import pytest

from coordinator.core.usage_checks import KnownFleet
from protos.domain.customers import Account, ApiKey
from protos.domain.fleet_view import with_changes
from protos.domain.pricing import MAX_TOKENS
from protos.domain.resources import SlaTier, Tier
from protos.domain.usage_counters import CounterSums
from protos.domain.usage_record import (
    BillingReason,
    UsageCause,
    UsageKey,
    UsageRecord,
    UsageSums,
    key_of,
)
from tests.support import fleets
from tests.support.usage_fleet import DAY_MS, NOW_UNIX_MS, TERMS, rates, record, rows, view


@pytest.fixture(scope="module")
def known() -> KnownFleet:
    fleet = KnownFleet()
    fleet.observe(view())
    return fleet


def changed(**changes: object) -> UsageRecord:
    """Return a record whose price was made before ``changes``."""
    return dataclasses.replace(record(), **changes)


def test_what_the_fleet_served_at_the_rates_of_the_card_is_believed(known: KnownFleet):
    assert known.problem(record(), "gru-1") == ""
    cheaper = record(tier_billed=Tier.CENTRAL, billing_reason=BillingReason.CHEAPER_FITTED)
    assert known.problem(cheaper, "gru-1") == ""
    for sla_tier in SlaTier:
        assert rates(sla_tier, Tier.EDGE)  # each has a line
    assert known.problem(record(cause=UsageCause.CLIENT_GONE), "gru-1") == ""


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (changed(account="other"), "no account 'other'"),
        (changed(key_id="k-other"), "has no key 'k-other'"),
        (changed(deployment="gone"), "no deployment 'gone'"),
        (changed(sla_tier=SlaTier.REALTIME), "SLA tier"),
        (changed(model="acme/other@1"), "no deployment"),
        (changed(size_class="xl"), "size class"),
        (changed(ingress_pop="IAD"), "never in POP 'IAD'"),
        (changed(serving_node="iad-1"), "never in POP 'GRU'"),
        (changed(serving_node="x-9"), "never in POP"),
        (changed(tier_served=Tier.CENTRAL), "is not central"),
        (changed(card_version=7), "price card 7"),
        (changed(prompt_nano_usd_per_token=1_000), "rates are not those"),
        (changed(tier_billed=Tier.CENTRAL), "rates are not those"),
        (changed(tier_billed=None), "billed by no tier"),
        (changed(tier_served=None), "nobody served it"),
        (changed(nano_usd=10**12), "its tokens and rates make"),
        (changed(nano_usd=0), "its tokens and rates make"),
        (changed(nano_usd=-5), "its tokens and rates make"),
        (changed(cached_tokens=101), "101 cached of 100"),
        (changed(completion_tokens=MAX_TOKENS + 1), "tokens"),
        (changed(zones=("MARS",)), "no zone 'MARS'"),
        (changed(status=99), "impossible status"),
        (changed(ttft_us=2**60), "impossible status"),
        (changed(trace_id="x" * 200), "too long"),
        (changed(cause=UsageCause.FAILED), "make 0"),
        (changed(billing_reason=BillingReason.FREE, nano_usd=0), "complete answer"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_cannot_be_is_not_believed(known: KnownFleet, bad: UsageRecord, problem: str):
    assert problem in known.problem(bad, "gru-1")


def test_a_node_speaks_only_of_its_own_ingress(known: KnownFleet):
    assert "iad-1 was never in POP 'GRU'" in known.problem(record(), "iad-1")


def test_a_replica_that_was_never_ordered_bills_nothing():
    bare = KnownFleet()
    bare.observe(with_changes(view(), [fleets.replica("gru-1")], ()))
    assert "never held" in bare.problem(record(), "gru-1")


def test_what_failed_or_was_empty_is_free(known: KnownFleet):
    free = {
        "nano_usd": 0,
        "billing_reason": BillingReason.FREE,
        "prompt_nano_usd_per_token": 0,
        "cached_nano_usd_per_token": 0,
        "completion_nano_usd_per_token": 0,
        "completion_tokens": 0,
    }
    empty = changed(cause=UsageCause.EMPTY, **free)
    assert known.problem(empty, "gru-1") == ""
    nobody = {"tier_served": None, "tier_billed": None, "serving_node": "", "serving_pop": ""}
    failed = changed(cause=UsageCause.FAILED, card_version=0, status=503, **free, **nobody)
    assert known.problem(failed, "gru-1") == ""


def test_the_surcharge_of_residency_needs_a_pin_that_there_was(known: KnownFleet):
    pinned = record(zones=("BR",))
    assert "rates are not those" in known.problem(pinned, "gru-1")
    bound = KnownFleet()
    bound.observe(with_changes(view(), (), [fleets.deployment(zones=("BR",))]))
    assert bound.problem(pinned, "gru-1") == ""
    narrowed = dataclasses.replace(record(), zones=("BR",))  # by a header, which costs nothing
    assert known.problem(narrowed, "gru-1") == ""


def test_what_was_removed_is_still_known_and_comes_back_from_its_text():
    fleet = KnownFleet()
    facts = fleet.observe(view())
    fleet.observe(with_changes(view(), rows(), ()))
    assert fleet.problem(record(), "gru-1") == ""
    again = KnownFleet(tuple(json.loads(json.dumps(fact))) for fact in facts)
    assert again.problem(record(), "gru-1") == ""
    assert "no account" in again.problem(changed(account="x"), "gru-1")


def test_a_second_card_leaves_the_first_one_valid(known: KnownFleet):
    fleet = KnownFleet()
    fleet.observe(view())
    line = fleets.price(Tier.EDGE, 99)
    dearer = dataclasses.replace(line, card_version=2)
    assert fleet.observe(with_changes(view(), (), [dearer, dataclasses.replace(TERMS, version=2)]))
    assert fleet.problem(record(), "gru-1") == ""
    assert "price card 2" in fleet.problem(changed(card_version=2), "gru-1")


def counters(key: UsageKey, sums: UsageSums) -> CounterSums:
    return CounterSums(key, sums)


def test_sums_of_a_zone_are_bounded_by_the_card(known: KnownFleet):
    one = record()
    sums = UsageSums(
        requests=1, billed=1, seen=1, prompt_tokens=100, cached_tokens=20, completion_tokens=50
    )
    key = key_of(one)
    sums.nano_usd = one.nano_usd
    assert known.counters_problem(counters(key, sums), "gru-1") == ""
    sums.nano_usd = 10**12
    assert "at most" in known.counters_problem(counters(key, sums), "gru-1")
    sums.nano_usd = 0
    sums.billed = 2
    assert "more billed" in known.counters_problem(counters(key, sums), "gru-1")
    assert "never in POP" in known.counters_problem(counters(key, UsageSums()), "iad-1")
    other = dataclasses.replace(key, account="other")
    assert "no deployment" in known.counters_problem(counters(other, UsageSums()), "gru-1")
    wrong = dataclasses.replace(key, tier_served="central")
    assert "is not central" in known.counters_problem(counters(wrong, UsageSums()), "gru-1")
    cached = UsageSums(requests=1, cached_tokens=1)
    assert "more cached" in known.counters_problem(counters(key, cached), "gru-1")


def test_refused_requests_need_no_account(known: KnownFleet):
    nobody = UsageKey(0, "", "", "", "standard", "", "", 0, "", "GRU")
    assert known.counters_problem(counters(nobody, UsageSums(shed=3)), "gru-1") == ""
    assert "no deployment" in known.counters_problem(
        counters(nobody, UsageSums(shed=3, requests=1)), "gru-1"
    )


def test_sums_have_no_more_tokens_than_their_requests_can_have(known: KnownFleet):
    sums = UsageSums(requests=2, completion_tokens=2 * MAX_TOKENS + 1)
    problem = known.counters_problem(counters(key_of(record()), sums), "gru-1")
    assert problem == "more tokens than its requests can have"


def test_sums_have_the_surcharge_of_residency_only_where_there_was_a_pin(known: KnownFleet):
    one = record()
    price = rates(SlaTier.STANDARD, Tier.EDGE, pinned=True)
    sums = UsageSums(requests=1, billed=1, completion_tokens=1_000)
    sums.nano_usd = 1_000 * price.completion_nano_usd_per_token
    greedy = counters(key_of(one), sums)
    assert "at most" in known.counters_problem(greedy, "gru-1")
    key = ApiKey("k-bound", b"other", "acme", (), 0, zones=("BR",))
    for pin in (Account("acme", zones=("BR",)), fleets.deployment(zones=("BR",)), key):
        bound = KnownFleet()
        bound.observe(view())
        bound.observe(with_changes(view(), (), [pin]))
        assert bound.counters_problem(greedy, "gru-1") == ""


def test_a_card_of_the_past_is_no_choice_of_a_node():
    fleet = KnownFleet()
    first = dataclasses.replace(TERMS, valid_from_unix_ms=NOW_UNIX_MS - 90 * DAY_MS)
    fleet.observe(with_changes(view(), (), [first]))
    assert fleet.card_problem(1, NOW_UNIX_MS) == ""
    second = dataclasses.replace(TERMS, version=2, valid_from_unix_ms=NOW_UNIX_MS - 30 * DAY_MS)
    facts = fleet.observe(with_changes(view(), (), [second]))
    assert "long ended" in fleet.card_problem(1, NOW_UNIX_MS)
    assert fleet.card_problem(1, NOW_UNIX_MS - 25 * DAY_MS) == "", "its agent was cut off"
    again = KnownFleet(tuple(json.loads(json.dumps(fact))) for fact in facts)
    assert "long ended" in again.card_problem(1, NOW_UNIX_MS)
