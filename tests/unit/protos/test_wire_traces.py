"""A trace survives the conversion; lists have a total order for paging."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protos.domain.trace import FarTimes, Trace, TraceColdStart
from protos.v1 import trace_pb2
from protos.wire import place_in_order, summary_to_wire, trace_from_wire, trace_to_wire
from tests.support.traces import refused, trace

LOADED = replace(
    trace(6),
    cold_start=TraceColdStart("adapter", "peer", 1_800_000, 640.0, 300.0),
    far=FarTimes(1.0, 2.0, 30.0, 640.0),
)


@pytest.mark.parametrize(
    "made", [LOADED, trace(7), refused(8), trace(9, first_token_ms=None, far=None)]
)
def test_a_trace_survives_the_wire(made: Trace) -> None:
    sent = trace_to_wire(made).SerializeToString()
    assert trace_from_wire(trace_pb2.Trace.FromString(sent)) == made


def test_a_gap_over_the_fields_range_is_cut() -> None:
    sent = trace_to_wire(trace(token_gaps_us=(1 << 40,)))
    assert list(sent.token_gaps_us) == [(1 << 32) - 1]


def test_newer_or_slower_traces_come_first() -> None:
    old, new = summary_to_wire(trace(1, first_token_ms=900.0)), summary_to_wire(trace(2))
    never = summary_to_wire(refused(3))
    newest, slowest = trace_pb2.TRACE_ORDER_NEWEST, trace_pb2.TRACE_ORDER_SLOWEST
    assert place_in_order(new, newest) > place_in_order(old, newest)
    assert place_in_order(old, slowest) > place_in_order(new, slowest)
    assert place_in_order(never, slowest) < place_in_order(new, slowest)
