"""Usage over killed agents and coordinators: what clients have seen is counted once."""

from __future__ import annotations

import json

from tests.support.fleet import AgentClient, Fleet
from tests.support.waiting import wait_until


def asked(agent: AgentClient, count: int) -> list[str]:
    """Send requests, half of them streams; return the traces of those that were answered."""
    traces = []
    for number in range(count):
        answer = agent.chat(stream=number % 2 == 0)
        assert answer.status == 200, answer.body
        traces.append(answer.headers["x-edgeforge-trace-id"])
    return traces


def usage_of(agent: AgentClient) -> dict[str, object]:
    return agent.status()["usage"]


def test_requests_are_counted_once_over_kills_of_agent_and_coordinator(fleet: Fleet) -> None:
    agent = fleet.agent("gru-1")
    traces = asked(agent, 10)
    fleet.kill("gru-1")
    fleet.start("gru-1")
    agent = fleet.agent("gru-1")
    agent.wait_ready()
    traces += asked(agent, 10)
    fleet.kill("coordinator")
    traces += asked(agent, 10)
    wait_until(lambda: usage_of(agent)["delivery_failure"], 30, "the coordinator is missed")
    fleet.kill("gru-1")
    fleet.start("gru-1")
    agent = fleet.agent("gru-1")
    agent.wait_ready()
    traces += asked(agent, 10)
    fleet.start("coordinator")

    def all_counted() -> bool:
        usage = usage_of(agent)
        return not usage["older_spools"] and not usage["waiting"] and bool(usage["delivered"])

    wait_until(all_counted, 90, "everything is delivered")
    lines = [json.loads(line) for line in fleet.edgeforge("usage", "export", "--json").splitlines()]
    exported = [line["trace_id"] for line in lines]
    assert len(set(exported)) == len(exported), "none twice"
    assert set(traces) <= set(exported), "each that a client has seen"
    causes = {line["trace_id"]: line["cause"] for line in lines}
    assert {causes[trace] for trace in traces} <= {"complete", "agent_lost"}
