"""Keys made and revoked while agents are connected."""

from __future__ import annotations

import json
import time

from tests.support.fleet import AgentClient, Fleet
from tests.support.waiting import wait_until, within_at_best


def with_key(agent: AgentClient, api_key: str) -> AgentClient:
    facts = {
        "node": agent.node,
        "url": agent.url,
        "pid": agent.pid,
        "admin": agent.admin_socket,
    }
    return AgentClient(facts, api_key, agent.model)


def test_a_new_key_works_and_a_revoked_one_is_refused_within_two_seconds(fleet: Fleet) -> None:
    def until_refused_s() -> float:
        made = json.loads(fleet.edgeforge("key", "create", "--account", "default", "--json"))
        agents = [with_key(agent, made["api_key"]) for agent in fleet.agents()]
        for agent in agents:
            wait_until(lambda agent=agent: agent.chat().status == 200, 30, "the new key to work")
        fleet.edgeforge("key", "revoke", made["id"])
        revoked_s = time.monotonic()
        for agent in agents:
            wait_until(lambda agent=agent: agent.chat().status == 401, 30, "the key to be refused")
        return time.monotonic() - revoked_s

    within_at_best(2.0, until_refused_s)


def test_another_accounts_key_finds_no_deployment_of_ours(fleet: Fleet) -> None:
    fleet.edgeforge("account", "create", "rival")
    made = json.loads(fleet.edgeforge("key", "create", "--account", "rival", "--json"))
    agent = with_key(fleet.agent("gru-1"), made["api_key"])
    wait_until(lambda: agent.chat().status != 401, 30, "the key to be known")
    answer = agent.chat()
    assert answer.status == 404
    assert answer.json()["error"]["code"] == "model_not_found"


def test_keys_are_in_no_log_and_in_no_file_of_coordinator_or_agents(fleet: Fleet) -> None:
    secret = fleet.facts["api_key"].encode()
    holders = [
        str(path.relative_to(fleet.state_dir))
        for path in fleet.state_dir.rglob("*")
        if path.is_file() and secret in path.read_bytes()
    ]
    assert holders == ["api-key"]
