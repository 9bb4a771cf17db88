"""Records of usage for tests."""

from __future__ import annotations

from dataclasses import replace

from protos.domain.resources import SlaTier, Tier
from protos.domain.usage_record import BillingReason, UsageCause, UsageRecord

_RECORD = UsageRecord(
    trace_id="0123456789abcdef0123456789abcdef",
    began_unix_ms=1_790_000_000_000,
    account="acme",
    key_id="key-1",
    deployment="acme/chat",
    model="acme/llama@1",
    size_class="8b",
    sla_tier=SlaTier.REALTIME,
    path="/v1/chat/completions",
    stream=True,
    status=200,
    cause=UsageCause.COMPLETE,
    prompt_tokens=1_200,
    cached_tokens=800,
    completion_tokens=300,
    tier_served=Tier.EDGE,
    tier_billed=Tier.REGIONAL,
    billing_reason=BillingReason.CHEAPER_FITTED,
    prompt_nano_usd_per_token=100,
    cached_nano_usd_per_token=50,
    completion_nano_usd_per_token=300,
    nano_usd=170_000,
    card_version=3,
    serving_node="gru-1",
    serving_pop="GRU",
    ingress_pop="GRU",
    budget_ms=150,
    ttft_us=80_000,
    stream_us=1_200_000,
    predicted_miss=False,
)


def usage_record(**changes: object) -> UsageRecord:
    """Return a billed, complete record of a stream, with ``changes``."""
    return replace(_RECORD, **changes)
