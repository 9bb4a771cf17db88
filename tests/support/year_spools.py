"""What agents of a simulated year write: spools, and what leaves a zone of a bound request."""

from __future__ import annotations

from coordinator.core.usage_batch import SpoolBatch
from protos.domain.usage_counters import CounterSums
from protos.domain.usage_record import UsageCause, UsageRecord, UsageSums, add_record, key_of
from protos.wire.sketches import bin_of
from tests.support.year_oracle import Request


class Spool:
    """What one agent has written and not sent; it sends in order, and sometimes again."""

    def __init__(self, node: str, number: int) -> None:
        self.node, self.name = node, f"{number:032x}"
        self.waiting: list[tuple[object, Request | None]] = []
        self.next = 1
        self.sent: list[SpoolBatch] = []
        self.away_until = 0


def request_of(record: UsageRecord, *, is_raw: bool) -> Request:
    return Request(
        *(record.account, record.deployment, str(record.sla_tier)),
        *(str(record.tier_billed or ""), record.card_version, record.began_unix_ms),
        *(record.prompt_tokens, record.cached_tokens, record.completion_tokens, record.nano_usd),
        *(record.cause is UsageCause.COMPLETE, record.stream, record.ttft_us, record.stream_us),
        *(record.budget_ms, record.predicted_miss, record.ingress_pop, record.key_id),
        record.trace_id,
        record.serving_pop,
        is_raw=is_raw,
    )


def counted(record: UsageRecord) -> CounterSums:
    """Return what leaves the zone of one request."""
    sums = UsageSums()
    add_record(sums, record)
    made = CounterSums(key_of(record), sums)
    if record.stream and record.ttft_us:
        made.ttft = {bin_of(record.ttft_us): 1}
        if record.completion_tokens > 1:
            made.pace = {bin_of((record.completion_tokens - 1) * 1e6 / record.stream_us): 1}
    return made
