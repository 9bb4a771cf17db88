"""Usage records and their messages."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from protos.domain.errors import InvalidRequest
from protos.domain.resources import SlaTier, Tier
from protos.domain.usage_record import (
    SUM_NAMES,
    BillingReason,
    UsageCause,
    UsageKey,
    UsageRecord,
    UsageSums,
)
from protos.v1 import usage_pb2 as u
from protos.v1.resources_pb2 import TIER_UNSPECIFIED as NO_TIER
from protos.wire.enums import SLA_FROM_WIRE, SLA_TO_WIRE, TIER_FROM_WIRE, TIER_TO_WIRE

CAUSE_TO_WIRE = {cause: u.UsageCause.Value(f"USAGE_CAUSE_{cause.name}") for cause in UsageCause}
CAUSE_FROM_WIRE = {wire: cause for cause, wire in CAUSE_TO_WIRE.items()}
REASON_TO_WIRE = {
    reason: u.BillingReason.Value(f"BILLING_REASON_{reason.name}") for reason in BillingReason
}
REASON_FROM_WIRE = {wire: reason for reason, wire in REASON_TO_WIRE.items()}


def encode_record(record: UsageRecord) -> bytes:
    """Return the bytes of ``record``. Hot."""
    return u.UsageRecord(
        trace_id=record.trace_id,
        began_unix_ms=record.began_unix_ms,
        account=record.account,
        key_id=record.key_id,
        deployment=record.deployment,
        model=record.model,
        size_class=record.size_class,
        sla_tier=SLA_TO_WIRE[record.sla_tier],
        path=record.path,
        stream=record.stream,
        status=record.status,
        cause=CAUSE_TO_WIRE[record.cause],
        prompt_tokens=record.prompt_tokens,
        cached_tokens=record.cached_tokens,
        completion_tokens=record.completion_tokens,
        tier_served=TIER_TO_WIRE[record.tier_served] if record.tier_served else NO_TIER,
        tier_billed=TIER_TO_WIRE[record.tier_billed] if record.tier_billed else NO_TIER,
        billing_reason=REASON_TO_WIRE[record.billing_reason],
        prompt_nano_usd_per_token=record.prompt_nano_usd_per_token,
        cached_nano_usd_per_token=record.cached_nano_usd_per_token,
        completion_nano_usd_per_token=record.completion_nano_usd_per_token,
        nano_usd=record.nano_usd,
        card_version=record.card_version,
        serving_node=record.serving_node,
        serving_pop=record.serving_pop,
        ingress_pop=record.ingress_pop,
        budget_ms=record.budget_ms,
        ttft_us=record.ttft_us,
        stream_us=record.stream_us,
        predicted_miss=record.predicted_miss,
        usage_exceeded=record.usage_exceeded,
        cold_path=record.cold_path,
        cold_us=record.cold_us,
        zones=record.zones,
        service_tier=record.service_tier,
    ).SerializeToString()


def encode_counters(
    key: UsageKey,
    sums: UsageSums,
    *,
    ttft_sketch: bytes = b"",
    pace_sketch: bytes = b"",
    cold_sketch: bytes = b"",
) -> bytes:
    """Return the bytes of one line of sums."""
    return u.UsageCounters(
        minute_unix_ms=key.minute_unix_ms,
        account=key.account,
        deployment=key.deployment,
        model=key.model,
        sla_tier=SLA_TO_WIRE[SlaTier(key.sla_tier)],
        tier_served=TIER_TO_WIRE[Tier(key.tier_served)] if key.tier_served else NO_TIER,
        tier_billed=TIER_TO_WIRE[Tier(key.tier_billed)] if key.tier_billed else NO_TIER,
        card_version=key.card_version,
        serving_pop=key.serving_pop,
        ingress_pop=key.ingress_pop,
        sums=[getattr(sums, name) for name in SUM_NAMES],
        ttft_sketch=ttft_sketch,
        pace_sketch=pace_sketch,
        cold_sketch=cold_sketch,
    ).SerializeToString()


def nano_usd_of(payload: bytes) -> int:
    """Return what the record in ``payload`` costs. Raises: InvalidRequest."""
    try:
        return u.UsageRecord.FromString(payload).nano_usd
    except DecodeError as error:
        raise InvalidRequest("malformed usage record") from error


def decode_record(payload: bytes) -> UsageRecord:
    """Return the record in ``payload``. Raises: InvalidRequest. Hot."""
    try:
        message = u.UsageRecord.FromString(payload)
        return UsageRecord(
            trace_id=message.trace_id,
            began_unix_ms=message.began_unix_ms,
            account=message.account,
            key_id=message.key_id,
            deployment=message.deployment,
            model=message.model,
            size_class=message.size_class,
            sla_tier=SLA_FROM_WIRE[message.sla_tier],
            path=message.path,
            stream=message.stream,
            status=message.status,
            cause=CAUSE_FROM_WIRE[message.cause],
            prompt_tokens=message.prompt_tokens,
            cached_tokens=message.cached_tokens,
            completion_tokens=message.completion_tokens,
            tier_served=TIER_FROM_WIRE[message.tier_served] if message.tier_served else None,
            tier_billed=TIER_FROM_WIRE[message.tier_billed] if message.tier_billed else None,
            billing_reason=REASON_FROM_WIRE[message.billing_reason],
            prompt_nano_usd_per_token=message.prompt_nano_usd_per_token,
            cached_nano_usd_per_token=message.cached_nano_usd_per_token,
            completion_nano_usd_per_token=message.completion_nano_usd_per_token,
            nano_usd=message.nano_usd,
            card_version=message.card_version,
            serving_node=message.serving_node,
            serving_pop=message.serving_pop,
            ingress_pop=message.ingress_pop,
            budget_ms=message.budget_ms,
            ttft_us=message.ttft_us,
            stream_us=message.stream_us,
            predicted_miss=message.predicted_miss,
            usage_exceeded=message.usage_exceeded,
            cold_path=message.cold_path,
            cold_us=message.cold_us,
            zones=tuple(message.zones),
            service_tier=message.service_tier,
        )
    except (DecodeError, KeyError) as error:
        raise InvalidRequest("malformed usage record") from error
