"""Quotes over the traces of many agents."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.operations.actor import Actor
from protos.domain.errors import DeadlineExceeded, InvalidRequest, NotFound
from tests.support.operations import CONNECTED, NODE, actor, line
from tests.support.stores import HOUR_MS, MODEL
from tests.support.traces import trace

ACCOUNT = Actor.of_account("acme")


@pytest.fixture
def traced(fleet):
    """Three requests of an hour each, the newest first."""
    found = [
        replace(
            trace(number, deployment="chat", model=MODEL.name, ingress_node_id=NODE),
            began_unix_ms=fleet.clock() - (3 - number) * HOUR_MS,
        )
        for number in (3, 2, 1)
    ]
    fleet.agents.lines[NODE] = [
        line(int(one.trace_id, 16), began_unix_ms=one.began_unix_ms) for one in found
    ]
    fleet.agents.traces = {one.trace_id: one for one in found}
    return fleet


async def test_each_budget_has_its_line_and_the_present_one_is_among_them(traced, ops):
    quoted = await ops.quotes.quote(ACCOUNT, "chat", [150.0, 300.0])
    assert [one.budget_ms for one in quoted.lines] == [80.0, 150.0, 300.0]
    assert [one.requests for one in quoted.lines] == [3, 3, 3]
    assert quoted.usage.completion_tokens == 3 * 11
    assert any("only 3 requests: too few" in note for note in quoted.notes)
    assert [one.budget_ms for one in (await ops.quotes.quote(ACCOUNT, "chat")).lines] == [
        40.0,
        64.0,
        80.0,
        120.0,
        160.0,
    ]


async def test_only_the_hours_asked_for_are_quoted(traced, ops):
    quoted = await ops.quotes.quote(ACCOUNT, "chat", [300.0], hours=1)
    assert quoted.lines[-1].requests == 2


async def test_agents_that_are_silent_and_traces_that_are_gone_are_told(traced, ops):
    traced.nodes["iad-1"] = CONNECTED
    traced.agents.lines["iad-1"] = DeadlineExceeded("too late")
    traced.agents.traces.popitem()
    quoted = await ops.quotes.quote(actor(), "chat", [300.0])
    assert "1 agents could not be asked: iad-1" in quoted.notes
    to_customer = await ops.quotes.quote(ACCOUNT, "chat", [300.0])
    assert "1 agents could not be asked" in to_customer.notes
    assert not any("iad-1" in note for note in to_customer.notes)
    assert "1 requests could not be fetched any more" in quoted.notes
    assert quoted.lines[-1].requests == 2


async def test_traffic_of_an_account_that_had_the_name_before_is_not_shown(traced, ops):
    for trace_id, one in traced.agents.traces.items():
        traced.agents.traces[trace_id] = replace(one, account="globex")
    quoted = await ops.quotes.quote(ACCOUNT, "chat", [300.0])
    assert quoted.lines[-1].requests == 0
    assert quoted.usage.prompt_tokens == 0


async def test_what_another_model_served_is_left_out(traced, ops):
    some = next(iter(traced.agents.traces))
    traced.agents.traces[some] = replace(traced.agents.traces[some], model="acme/old@1")
    quoted = await ops.quotes.quote(ACCOUNT, "chat", [300.0])
    assert quoted.lines[-1].requests == 2
    assert any("1 of 3 requests are left out" in note for note in quoted.notes)


async def test_a_deployment_without_traffic_says_so(fleet, ops):
    quoted = await ops.quotes.quote(actor(), "chat")
    assert all(one.requests == 0 for one in quoted.lines)
    assert any("only 0 requests" in note for note in quoted.notes)


async def test_another_account_s_deployment_is_not_there(traced, ops):
    with pytest.raises(NotFound):
        await ops.quotes.quote(Actor.of_account("globex"), "chat")


@pytest.mark.parametrize("budgets", [[0.0], [-1.0], [float("nan")], [7e5], list(range(1, 13))])
async def test_impossible_budgets_are_refused(ops, budgets):
    with pytest.raises(InvalidRequest):
        await ops.quotes.quote(actor(), "chat", budgets)
    with pytest.raises(InvalidRequest):
        await ops.quotes.quote(actor(), "chat", [80.0], hours=100_000)
