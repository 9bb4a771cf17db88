"""A removed node serves nobody, over restarts; enrolled again it starts anew."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable

from tests.integration.agent_process.conftest import Edgeforge
from tests.support.agent_process import AgentProcess
from tests.support.coordinator_process import CoordinatorProcess
from tests.support.waiting import wait_until

MakeAgent = Callable[..., AgentProcess]
MakeToken = Callable[..., str]


def ask(agent: AgentProcess) -> tuple[int, dict[str, str]]:
    """Send a request with some key and return status and error."""
    connection = http.client.HTTPConnection("127.0.0.1", agent.ports["client"], timeout=30)
    headers = {"authorization": "Bearer ef-some-key"}
    try:
        connection.request("POST", "/v1/chat/completions", b"{}", headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())["error"]
    finally:
        connection.close()


def status(agent: AgentProcess) -> dict[str, object]:
    return dict(json.loads(agent.command("status", "--json").stdout))


def test_a_removed_node_stops_serving_over_restarts_and_enrolled_again_is_not_ahead(
    make_agent: MakeAgent,
    token: MakeToken,
    edgeforge: Edgeforge,
    coordinator: CoordinatorProcess,
) -> None:
    agent = make_agent()
    assert agent.enroll(token("--node", "gone-1")).returncode == 0
    agent.start()
    wait_until(lambda: agent.probe("/readyz") == 200, 60, "the agent to be ready")
    assert ask(agent)[0] == 401, "it knows that there is no such key"
    assert edgeforge("node", "rm", "gone-1").returncode == 0
    wait_until(lambda: ask(agent)[0] == 503, 30, "the agent to serve nobody")
    assert "removed from its fleet" in ask(agent)[1]["message"]
    assert ask(agent)[1]["code"] == "site_removed"
    assert agent.probe("/readyz") == 503
    assert status(agent)["removed"]
    assert "removed from the fleet" in agent.log_text()
    assert agent.stop() == 0

    agent.start()
    assert ask(agent)[0] == 503, "before it has a link"
    assert agent.probe("/readyz") == 503
    assert agent.stop() == 0

    assert agent.enroll(token("--node", "back-1")).returncode == 0, "without --force"
    agent.start()
    wait_until(lambda: agent.probe("/readyz") == 200, 60, "the agent to be ready again")
    assert status(agent)["node"] == "back-1"
    assert ask(agent)[0] == 401
    assert agent.stop() == 0
    assert "agent_ahead" not in coordinator.log_text()


def test_a_site_that_never_had_a_table_answers_503_and_not_401(
    make_agent: MakeAgent, token: MakeToken
) -> None:
    agent = make_agent()
    assert agent.enroll(token()).returncode == 0
    path = agent.config
    path.write_text(path.read_text().replace("[coordinator]\n", _NOWHERE))
    agent.start()
    code, error = ask(agent)
    assert code == 503
    assert error["code"] == "site_cut_off"
    assert "no table of keys yet" in error["message"]
    assert agent.stop() == 0


_NOWHERE = '[coordinator]\nfleet_address = "127.0.0.1:1"\n'
