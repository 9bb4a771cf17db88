"""Traces for an operator: merged from agents, with the nodes that were not asked."""

from __future__ import annotations

import pytest

from coordinator.fleet.live import LiveNode
from coordinator.operations import traces
from coordinator.store import pops
from protos.domain.errors import DeadlineExceeded, InvalidRequest, LinkDown, NotFound
from protos.domain.trace import Trace
from protos.v1 import admin_pb2, fleet_pb2, trace_pb2
from protos.wire import place_in_order, summary_to_wire, trace_to_wire
from tests.support.operator_listeners import failure_of
from tests.support.stores import GRU, IAD, enrol
from tests.support.traces import trace

CONNECTED = LiveNode(connected=True, last_status_age_s=0.1)
SLOWEST = trace_pb2.TRACE_ORDER_SLOWEST


class Holder:
    """An agent that holds some traces, and cuts lists as real ones do."""

    def __init__(self, *held: Trace) -> None:
        self.held = held

    def __call__(self, query: fleet_pb2.Query) -> fleet_pb2.Answer:
        if query.WhichOneof("question") == "trace_show":
            found = [one for one in self.held if one.trace_id == query.trace_show.trace_id]
            shown = fleet_pb2.TraceShown(trace=trace_to_wire(found[0]) if found else None)
            return fleet_pb2.Answer(trace_shown=shown)
        asked = query.trace_list.filter
        lines = [summary_to_wire(one) for one in self.held]
        lines.sort(key=lambda line: place_in_order(line, asked.order), reverse=True)
        if asked.HasField("after"):
            after = asked.after.value, asked.after.trace_id
            lines = [line for line in lines if place_in_order(line, asked.order) < after]
        return fleet_pb2.Answer(trace_list=fleet_pb2.TraceList(traces=lines[: asked.limit]))


def late(_query: fleet_pb2.Query) -> fleet_pb2.Answer:
    raise DeadlineExceeded("node 'iad-1' did not answer within 3000 ms")


@pytest.fixture
async def fleet(listeners):
    """GRU and IAD with an agent each; IAD's second node has never connected."""
    await listeners.store.write(pops.put(GRU))
    await listeners.store.write(pops.put(IAD))
    for node_id, pop_id in (("gru-1", "GRU"), ("iad-1", "IAD"), ("iad-2", "IAD")):
        await enrol(listeners.store, node_id, pop_id)
    live = listeners.live
    live.nodes |= {"gru-1": CONNECTED, "iad-1": CONNECTED}
    live.answers |= {"gru-1": Holder(trace(1), trace(4)), "iad-1": Holder(trace(2), trace(3))}
    return listeners


async def listed(admin, via="", **asked):
    request = admin_pb2.ListTracesRequest(filter=trace_pb2.TraceFilter(**asked), via=via)
    return await admin.ListTraces(request)


def numbers(response):
    return [int(line.trace_id, 16) for line in response.traces]


async def test_lists_are_merged_newest_first_and_name_nodes_not_searched(fleet, admin):
    response = await listed(admin)
    assert numbers(response) == [4, 3, 2, 1]
    assert list(response.searched) == ["gru-1", "iad-1"]
    assert [(one.node_id, one.reason) for one in response.unsearched] == [
        ("iad-2", "not connected, not heard of since this coordinator started")
    ]
    assert not response.HasField("next")


@pytest.mark.parametrize("order", [trace_pb2.TRACE_ORDER_NEWEST, SLOWEST])
@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_pages_over_agents_show_each_trace_once_in_order(fleet, admin, order, limit):
    many = [trace(number, first_token_ms=100.0 + number * 7 % 5) for number in range(11)]
    fleet.live.answers["gru-1"] = Holder(*many[::2])
    fleet.live.answers["iad-1"] = Holder(*many[1::2])
    seen, after = [], None
    while True:
        response = await listed(admin, order=order, limit=limit, after=after)
        seen += response.traces
        if not response.HasField("next"):
            break
        after = response.next
    expected = sorted(
        map(summary_to_wire, many), key=lambda line: place_in_order(line, order), reverse=True
    )
    assert seen == expected


async def test_an_agent_that_is_late_or_too_old_is_named_and_the_others_are_shown(fleet, admin):
    fleet.live.answers["iad-1"] = late
    response = await listed(admin)
    assert numbers(response) == [4, 1]
    assert "did not answer within" in response.unsearched[-1].reason
    too_old = "this agent is too old for the question"
    fleet.live.answers["iad-1"] = fleet_pb2.Answer(error=too_old)
    response = await listed(admin)
    assert response.unsearched[-1].reason == too_old


async def test_via_asks_one_node_or_one_pop(fleet, admin):
    for via, expected in (("gru-1", [4, 1]), ("IAD", [3, 2]), ("iad-2", [])):
        assert numbers(await listed(admin, via=via)) == expected
    assert [node for node, _ in fleet.live.asked] == ["gru-1", "iad-1"]


async def test_invalid_lists_are_refused(fleet, admin):
    filter_ = trace_pb2.TraceFilter(limit=501)
    too_many = admin.ListTraces(admin_pb2.ListTracesRequest(filter=filter_))
    assert type(await failure_of(too_many)) is InvalidRequest
    nowhere = admin.ListTraces(admin_pb2.ListTracesRequest(via="XXX"))
    assert type(await failure_of(nowhere)) is NotFound
    assert fleet.live.asked == []


async def test_no_more_agents_are_asked_than_the_bound(fleet, admin, monkeypatch):
    monkeypatch.setattr(traces, "MAX_AGENTS", 1)
    response = await listed(admin)
    assert list(response.searched) == ["gru-1"]
    assert {one.node_id: one.reason for one in response.unsearched}["iad-1"].startswith("more than")


async def test_a_trace_is_found_whoever_holds_it(fleet, admin):
    request = admin_pb2.GetTraceRequest(trace_id=trace(3).trace_id.upper())
    assert await admin.GetTrace(request) == trace_to_wire(trace(3))


async def test_a_trace_that_is_not_found_names_the_nodes_that_were_searched(fleet, admin):
    unknown = "f" * 32
    error = await failure_of(admin.GetTrace(admin_pb2.GetTraceRequest(trace_id=unknown)))
    assert type(error) is LinkDown
    assert "searched: gru-1, iad-1; not searched: iad-2 (not connected" in str(error)
    by_pop = admin_pb2.GetTraceRequest(trace_id=unknown, via="GRU")
    error = await failure_of(admin.GetTrace(by_pop))
    assert type(error) is NotFound
    assert "searched: gru-1" in str(error)
    fleet.live.nodes["gru-1"] = LiveNode(connected=False, last_status_age_s=42.0)
    error = await failure_of(admin.GetTrace(by_pop))
    assert type(error) is LinkDown
    assert "searched: no agent; not searched: gru-1 (not connected, last heard of 42 s ago)" in str(
        error
    )
    bad = admin_pb2.GetTraceRequest(trace_id="x" * 32)
    assert type(await failure_of(admin.GetTrace(bad))) is InvalidRequest
