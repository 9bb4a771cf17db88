"""Sums of requests whose records stay in their zone, from their messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.errors import InvalidRequest
from protos.domain.usage_counters import CounterSums
from protos.domain.usage_record import SUM_NAMES, UsageKey, UsageSums
from protos.v1.resources_pb2 import TIER_UNSPECIFIED
from protos.wire.enums import SLA_FROM_WIRE, TIER_FROM_WIRE
from protos.wire.sketches import Sketch

if TYPE_CHECKING:
    from protos.v1 import usage_pb2

#: Of one kind in one minute and key; the sums of a month fit 64 bits.
_MAX_SUM = 2**50
_MINUTE_MS = 60_000


def counters_of(message: usage_pb2.UsageCounters, arrived_unix_ms: int) -> CounterSums:
    """Return the sums; a minute in the future is that of the arrival. Raises: InvalidRequest."""
    if len(message.sums) != len(SUM_NAMES):
        raise InvalidRequest(f"counters with {len(message.sums)} sums, not {len(SUM_NAMES)}")
    if not all(0 <= value <= _MAX_SUM for value in message.sums):
        raise InvalidRequest("counters with an impossible sum")
    if message.sla_tier not in SLA_FROM_WIRE:
        raise InvalidRequest("counters without an SLA tier")
    minute_unix_ms = max(0, min(message.minute_unix_ms, arrived_unix_ms))
    return CounterSums(
        key=UsageKey(
            minute_unix_ms=minute_unix_ms - minute_unix_ms % _MINUTE_MS,
            account=message.account,
            deployment=message.deployment,
            model=message.model,
            sla_tier=SLA_FROM_WIRE[message.sla_tier],
            tier_served=_tier(message.tier_served),
            tier_billed=_tier(message.tier_billed),
            card_version=message.card_version,
            serving_pop=message.serving_pop,
            ingress_pop=message.ingress_pop,
        ),
        sums=UsageSums(*message.sums),
        ttft=Sketch.from_bytes(message.ttft_sketch).bins,
        pace=Sketch.from_bytes(message.pace_sketch).bins,
        cold=Sketch.from_bytes(message.cold_sketch).bins,
        payload=message.SerializeToString(),
    )


def _tier(wire: int) -> str:
    if wire == TIER_UNSPECIFIED:
        return ""
    if wire not in TIER_FROM_WIRE:
        raise InvalidRequest("counters of an unknown tier")
    return str(TIER_FROM_WIRE[wire])  # type: ignore[index]
