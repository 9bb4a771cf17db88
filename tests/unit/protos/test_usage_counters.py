"""Sums of a zone, from their message: what is impossible is refused."""

import dataclasses

import pytest

from protos.domain.errors import InvalidRequest
from protos.domain.usage_counters import CounterSums
from protos.domain.usage_record import SUM_NAMES, UsageSums, add_record, key_of
from protos.v1.usage_pb2 import UsageCounters
from protos.wire.sketches import Sketch
from protos.wire.usage import encode_counters
from protos.wire.usage_counters import counters_of
from tests.support.usage_fleet import NOW_UNIX_MS, record


def message(**sums: int) -> UsageCounters:
    counted = UsageSums()
    add_record(counted, record())
    payload = encode_counters(
        key_of(record()),
        dataclasses.replace(counted, **sums),
        ttft_sketch=Sketch.of([40_000]).to_bytes(),
    )
    return UsageCounters.FromString(payload)


def test_sums_come_as_they_were_sent():
    sent = message()
    found = counters_of(sent, NOW_UNIX_MS)
    counted = UsageSums()
    add_record(counted, record())
    assert found == CounterSums(
        key_of(record()),
        counted,
        ttft=Sketch.of([40_000]).bins,
        payload=sent.SerializeToString(),
    )


def test_a_minute_in_the_future_is_that_of_the_arrival():
    sent = message()
    sent.minute_unix_ms = NOW_UNIX_MS + 10**12 + 7
    found = counters_of(sent, NOW_UNIX_MS)
    assert found.key.minute_unix_ms == NOW_UNIX_MS - NOW_UNIX_MS % 60_000


def test_impossible_sums_are_refused():
    for bad in (message(requests=-1), message(nano_usd=2**60)):
        with pytest.raises(InvalidRequest, match="impossible sum"):
            counters_of(bad, NOW_UNIX_MS)
    short = message()
    del short.sums[3:]
    with pytest.raises(InvalidRequest, match=f"not {len(SUM_NAMES)}"):
        counters_of(short, NOW_UNIX_MS)
    untiered = message()
    untiered.sla_tier = 0
    with pytest.raises(InvalidRequest, match="SLA tier"):
        counters_of(untiered, NOW_UNIX_MS)
    other = message()
    other.tier_billed = 77
    with pytest.raises(InvalidRequest, match="unknown tier"):
        counters_of(other, NOW_UNIX_MS)
    torn = message()
    torn.ttft_sketch = b"\xff\xff"
    with pytest.raises(InvalidRequest, match="sketch"):
        counters_of(torn, NOW_UNIX_MS)
