"""Limits over a real fleet: two agents at one limit, agents and the coordinator killed."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from protos.domain.quota import LEASE_MARGIN_MS, LEASE_MS
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Answer, Fleet
from tests.support.waiting import wait_until


def keyed(fleet: Fleet, *limits: str) -> list[AgentClient]:
    """Make a key with ``limits``; return both agents as it sees them, once they know it."""
    made = json.loads(fleet.edgeforge("key", "create", "--account", "default", *limits, "--json"))
    agents = []
    for agent in fleet.agents():
        facts = {
            "node": agent.node,
            "url": agent.url,
            "pid": agent.pid,
            "admin": agent.admin_socket,
        }
        agents.append(AgentClient(facts, made["api_key"], agent.model))
    for agent in agents:
        wait_until(lambda agent=agent: lists(agent), 30, "the key to be known")
    return agents


def lists(agent: AgentClient) -> bool:
    """Whether the agent knows the key: nothing is counted for a list of models."""
    connection = agent.connect()
    connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {agent.api_key}"})
    status = connection.getresponse().status
    connection.close()
    return status == 200


def test_two_agents_at_one_limit_admit_together_what_it_says(fleet: Fleet) -> None:
    agents = keyed(fleet, "--requests-per-minute", "40")
    began_s = time.monotonic()
    answers: dict[str, list[Answer]] = {agent.node: [] for agent in agents}

    def ask(agent: AgentClient) -> None:
        while time.monotonic() - began_s < 3.0:
            answers[agent.node].append(agent.chat(max_tokens=2))

    with ThreadPoolExecutor() as pool:
        list(pool.map(ask, [*agents, *agents]))
    took_s = time.monotonic() - began_s
    statuses = Counter(one.status for given in answers.values() for one in given)
    assert set(statuses) == {200, 429}
    assert 36 <= statuses[200] <= 40 + 40 * took_s / 60 + 1
    for given in answers.values():
        assert any(one.status == 200 for one in given), "both got a share"
        refused = [one for one in given if one.status == 429][-1]
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["x-ratelimit-limit-requests"] == "40"
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"


def test_a_good_answer_tells_what_is_left_in_its_vendors_words(fleet: Fleet) -> None:
    (agent, _) = keyed(fleet, "--requests-per-minute", "100", "--tokens-per-minute", "100000")
    chat = agent.chat(max_tokens=2)
    assert chat.status == 200
    assert chat.headers["x-ratelimit-limit-requests"] == "100"
    assert chat.headers["x-ratelimit-remaining-requests"] == "99"
    assert chat.headers["x-ratelimit-reset-requests"] == "600ms"
    assert int(chat.headers["x-ratelimit-remaining-tokens"]) < 100_000
    body = {
        "model": agent.model,
        "max_tokens": 2,
        "stream": True,
        "messages": [{"role": "user", "content": "hi"}],
    }
    message = agent.send(body, path="/v1/messages")
    assert message.status == 200
    assert message.headers["anthropic-ratelimit-requests-limit"] == "100"
    assert int(message.headers["anthropic-ratelimit-requests-remaining"]) in (98, 99)
    assert message.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    unlimited = fleet.agents()[0].chat(max_tokens=2)
    assert not [name for name in unlimited.headers if "ratelimit" in name]


@pytest.mark.parametrize("killed", ["gru-1"])
def test_an_agent_killed_with_leases_blocks_nobody_after_their_end(
    fleet: Fleet, engine: FakeEngineProcess, killed: str
) -> None:
    agents = {agent.node: agent for agent in keyed(fleet, "--sequences", "3")}
    victim = agents.pop(killed)
    (other,) = agents.values()
    engine.control(tokens=1_000, token_delay_ms=50)

    def stream() -> None:
        with contextlib.suppress(Exception):
            victim.chat(stream=True, max_tokens=1_000)

    for _ in range(3):
        threading.Thread(target=stream, daemon=True).start()
    wait_until(lambda: engine.running() == 3, 10, "three streams")
    assert other.chat(max_tokens=1).status == 429, "all three are in use elsewhere"
    fleet.kill(killed)
    engine.control()
    killed_s = time.monotonic()
    wait_until(lambda: other.chat(max_tokens=1).status == 200, 30, "the leases to end")
    assert time.monotonic() - killed_s < (LEASE_MS + LEASE_MARGIN_MS) / 1_000 + 2.0
    fleet.start(killed)
    fleet.wait_caught_up(killed)


def test_a_killed_coordinator_stops_nobody_and_limits_hold_after_its_return(
    fleet: Fleet,
) -> None:
    agents = keyed(fleet, "--requests-per-minute", "60")
    for agent in agents:
        assert agent.chat(max_tokens=1).status == 200
    fleet.kill("coordinator")
    for agent in agents:
        assert agent.chat(max_tokens=1).status == 200
    fleet.start("coordinator")
    began_s = time.monotonic()
    good = 0
    while time.monotonic() - began_s < 4.0:
        for agent in agents:
            good += agent.chat(max_tokens=1).status == 200
    assert 1 <= good <= 60 + 60 * 6 / 60
