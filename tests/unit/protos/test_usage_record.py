"""Usage records and their sums."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from protos.domain.errors import InvalidRequest
from protos.domain.resources import SlaTier, Tier
from protos.domain.usage_record import (
    SUM_NAMES,
    BillingReason,
    UsageCause,
    UsageRecord,
    UsageSums,
    add_record,
    key_of,
)
from protos.wire.usage import decode_record, encode_record

RECORD = UsageRecord(
    trace_id="t1",
    began_unix_ms=1_700_000_061_500,
    account="acme",
    key_id="k1",
    deployment="chat",
    model="a/b@1",
    size_class="xs",
    sla_tier=SlaTier.INTERACTIVE,
    path="/v1/chat/completions",
    stream=True,
    status=200,
    cause=UsageCause.COMPLETE,
    prompt_tokens=10,
    cached_tokens=4,
    completion_tokens=3,
    tier_served=Tier.EDGE,
    tier_billed=Tier.REGIONAL,
    billing_reason=BillingReason.CHEAPER_FITTED,
    prompt_nano_usd_per_token=22,
    cached_nano_usd_per_token=11,
    completion_nano_usd_per_token=44,
    nano_usd=6 * 22 + 4 * 11 + 3 * 44,
    card_version=3,
    serving_node="gru-1",
    serving_pop="GRU",
    ingress_pop="GIG",
    budget_ms=150,
    ttft_us=80_000,
    stream_us=90_000,
    predicted_miss=False,
    cold_path="adapter",
    cold_us=17_000,
    zones=("BR", "EU"),
    service_tier="auto",
)


def test_a_record_survives_the_wire_unchanged() -> None:
    assert decode_record(encode_record(RECORD)) == RECORD


def test_a_record_that_no_target_answered_survives_the_wire() -> None:
    failed = replace(
        RECORD,
        cause=UsageCause.FAILED,
        tier_served=None,
        tier_billed=None,
        billing_reason=BillingReason.FREE,
        nano_usd=0,
    )
    assert decode_record(encode_record(failed)) == failed


@pytest.mark.parametrize("payload", [b"\xff", b"\x60\x63", b""])
def test_bytes_that_are_no_record_are_refused(payload: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decode_record(payload)


def test_the_minute_of_a_record_is_that_of_its_beginning() -> None:
    assert key_of(RECORD).minute_unix_ms == 1_700_000_040_000


def test_sums_count_requests_tokens_money_and_streams_in_time() -> None:
    sums = UsageSums()
    add_record(sums, RECORD)
    add_record(sums, replace(RECORD, ttft_us=150_001, cause=UsageCause.CLIENT_GONE))
    add_record(sums, replace(RECORD, stream=False, ttft_us=0, nano_usd=0))
    assert (sums.requests, sums.billed, sums.seen) == (3, 2, 2)
    assert (sums.streams, sums.streams_in_time) == (2, 1)
    assert sums.nano_usd == 2 * RECORD.nano_usd


def test_sums_of_sums_are_the_sums_of_all() -> None:
    one, two, both = UsageSums(), UsageSums(), UsageSums()
    add_record(one, RECORD)
    add_record(two, replace(RECORD, predicted_miss=True))
    for record in (RECORD, replace(RECORD, predicted_miss=True)):
        add_record(both, record)
    one.add(two)
    assert one == both


def test_the_names_of_sums_are_their_fields_in_order() -> None:
    assert tuple(field.name for field in fields(UsageSums)) == SUM_NAMES
