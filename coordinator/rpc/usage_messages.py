"""Batches of usage, from their messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.core.usage_batch import SpoolBatch
from protos.domain.errors import InvalidRequest
from protos.wire.usage_counters import counters_of

if TYPE_CHECKING:
    from protos.domain.usage_counters import CounterSums
    from protos.v1 import usage_pb2


def batch_of(
    message: usage_pb2.UsageBatch, node: str, arrived_unix_ms: int, enrolled_unix_ms: int
) -> SpoolBatch:
    """Return the batch that ``node`` has sent. Counters that cannot be are kept as they came."""
    counters: list[CounterSums] = []
    unreadable: list[tuple[bytes, str]] = []
    for one in message.counters:
        try:
            counters.append(counters_of(one, arrived_unix_ms))
        except InvalidRequest as error:
            unreadable.append((one.SerializeToString(), error.message))
    return SpoolBatch(
        node=node,
        spool=message.spool_id,
        first_seq=message.first_seq,
        last_seq=message.last_seq,
        records=[(one.seq, one.record) for one in message.records],
        counters=counters,
        unreadable=unreadable,
        damaged=list(message.damaged),
        arrived_unix_ms=arrived_unix_ms,
        enrolled_unix_ms=enrolled_unix_ms,
    )
