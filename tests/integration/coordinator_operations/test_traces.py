"""Traces of many agents, asked for without any wire."""

from __future__ import annotations

import pytest

from coordinator.operations import traces
from coordinator.operations.agents import TraceFilter
from protos.domain.errors import DeadlineExceeded, InvalidRequest, LinkDown, NotFound
from tests.support.operations import CONNECTED, actor, line
from tests.support.traces import trace


def numbers(lines) -> list[int]:
    return [int(one.trace_id, 16) for one in lines]


async def test_agents_that_fail_are_named_and_the_others_are_shown(fleet, ops):
    fleet.nodes["iad-1"] = CONNECTED
    fleet.agents.lines = {"gru-1": [line(4), line(1)], "iad-1": DeadlineExceeded("too late")}
    page = await ops.traces.list_page(actor(), TraceFilter())
    assert numbers(page.traces) == [4, 1]
    assert page.searched == ["gru-1"]
    assert [(one.node_id, one.reason) for one in page.unsearched] == [("iad-1", "too late")]


async def test_no_more_agents_are_asked_than_the_bound(fleet, ops, monkeypatch):
    fleet.nodes["iad-1"] = CONNECTED
    monkeypatch.setattr(traces, "MAX_AGENTS", 1)
    page = await ops.traces.list_page(actor(), TraceFilter())
    assert fleet.agents.asked == ["gru-1"]
    assert "more than 1 agents" in page.unsearched[0].reason


async def test_a_trace_that_nobody_holds_names_who_was_asked(fleet, ops):
    fleet.agents.traces = {}
    with pytest.raises(LinkDown, match="searched: gru-1; not searched: iad-1 \\(not connected"):
        await ops.traces.find(actor(), trace(3).trace_id)
    with pytest.raises(NotFound, match="searched: gru-1"):
        await ops.traces.find(actor(), trace(3).trace_id, via="GRU")


@pytest.mark.parametrize(
    ("asked", "via", "error"),
    [(TraceFilter(limit=501), "", InvalidRequest), (TraceFilter(), "XXX", NotFound)],
)
async def test_invalid_lists_ask_nobody(fleet, ops, asked, via, error):
    with pytest.raises(error):
        await ops.traces.list_page(actor(), asked, via)
    assert fleet.agents.asked == []
