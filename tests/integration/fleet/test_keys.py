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


def asked(agent: AgentClient, path: str) -> int:
    """Return the status of a GET."""
    connection = agent.connect()
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {agent.api_key}"})
        return connection.getresponse().status
    finally:
        connection.close()


def made_key(fleet: Fleet, *options: str) -> dict[str, str]:
    return json.loads(fleet.edgeforge("key", "create", "--account", "default", *options, "--json"))


def test_a_key_works_only_where_its_scopes_allow_whatever_a_proxys_header_says(
    fleet: Fleet,
) -> None:
    elsewhere = made_key(fleet, "--origin", "203.0.113.0/24")
    embeds = made_key(fleet, "--endpoint", "/v1/embeddings", "--origin", "127.0.0.0/8")
    here = made_key(fleet, "--origin", "127.0.0.1", "--endpoint", "/v1/chat/completions")
    agent = fleet.agent("gru-1")
    stranger, embedder, allowed = (
        with_key(agent, one["api_key"]) for one in (elsewhere, embeds, here)
    )
    wait_until(lambda: allowed.chat().status == 200, 30, "the key to work")
    spoofed = {"x-forwarded-for": "203.0.113.9", "forwarded": "for=203.0.113.9"}
    refused = stranger.chat(headers=spoofed)
    assert (refused.status, refused.json()["error"]["code"]) == (403, "origin_not_allowed")
    assert "127.0.0.1" in refused.json()["error"]["message"]
    listed = asked(stranger, "/v1/models")
    assert listed == 403
    other = embedder.chat()
    assert (other.status, other.json()["error"]["code"]) == (403, "endpoint_not_allowed")
    assert asked(embedder, "/v1/models") == 200


def test_a_rotated_keys_old_text_ends_at_every_agent_by_itself(fleet: Fleet) -> None:
    made = made_key(fleet)
    agents = [with_key(agent, made["api_key"]) for agent in fleet.agents()]
    for agent in agents:
        wait_until(lambda agent=agent: agent.chat().status == 200, 30, "the key to work")
    rotated = json.loads(fleet.edgeforge("key", "rotate", made["id"], "--grace", "1s", "--json"))
    for agent in agents:
        new = with_key(agent, rotated["api_key"])
        wait_until(lambda new=new: new.chat().status == 200, 30, "the new key to work")
        wait_until(lambda agent=agent: agent.chat().status == 401, 30, "the old key to end")
    listed = json.loads(fleet.edgeforge("key", "ls", "--account", "default", "--json"))
    replaced = {one["id"]: one["replaced_by"] for one in listed}
    assert replaced[made["id"]] == rotated["id"]


def test_operators_manage_accounts_and_members_at_the_command_line(fleet: Fleet) -> None:
    def said(*words: str) -> dict[str, object]:
        return json.loads(fleet.edgeforge(*words, "--json"))

    assert said("account", "create", "umbrella") == {"id": "umbrella"}
    suspended = said("account", "suspend", "umbrella", "--reason", "chargeback")
    assert (suspended["state"], suspended["reason"]) == ("suspended", "chargeback")
    shown = said("account", "show", "umbrella")
    assert shown["account"]["state_by"].startswith("operator/")
    assert said("account", "resume", "umbrella")["state"] == "active"
    made = said("account", "invite", "umbrella", "--email", "a@x.org", "--role", "owner")
    assert made["text"].startswith("efi-")
    invitation = made["invitation"]["id"]
    assert said("account", "show", "umbrella")["invitations"][0]["id"] == invitation
    assert said("account", "withdraw", invitation) == {"id": invitation}
    assert said("account", "invite")["text"].startswith("efi-")
    listed = json.loads(fleet.edgeforge("account", "ls", "--json"))
    states = {one["id"]: one["state"] for one in listed}
    assert states["umbrella"] == "active"
    key = said("key", "create", "--account", "umbrella", "--expires", "90d")
    assert said("key", "revoke", key["id"]) == {"id": key["id"]}
