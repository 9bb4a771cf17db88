"""A client that leaves at each moment of its request, or reads slowly: here, and over a hop."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet
from tests.support.waiting import wait_until

NODES = ("iad-1", "gru-1")


def send_raw(agent: AgentClient, *, tokens: int, cut: int | None = None) -> socket.socket:
    """Send a streamed request, or only ``cut`` bytes of it."""
    parts = urlsplit(agent.url)
    body = json.dumps(
        {"model": agent.model, "stream": True, "max_tokens": tokens, "messages": []}
    ).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n"
        f"authorization: Bearer {agent.api_key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()
    client = socket.create_connection((parts.hostname, parts.port), 20)
    client.sendall((head + body)[:cut])
    return client


def nothing_is_left(agent: AgentClient, engine: FakeEngineProcess) -> None:
    wait_until(lambda: engine.running() == 0, 30, "the engine's request to be aborted")
    wait_until(lambda: agent.status()["in_flight"] == 0, 30, "the request to be over")
    engine.control()
    assert agent.chat().status == 200


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("moment", ["in the head", "in the body"])
def test_a_client_gone_before_its_request_is_whole_costs_nobody_anything(
    engine: FakeEngineProcess, fleet: Fleet, node: str, moment: str
) -> None:
    agent = fleet.agent(node)
    send_raw(agent, tokens=8, cut=40 if moment == "in the head" else -5).close()
    assert agent.chat().status == 200
    assert len(engine.requests()) == 1
    nothing_is_left(agent, engine)


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize(
    ("moment", "behaviour"),
    [
        ("before the engine's head", {"head_delay_ms": 60_000}),
        ("before the first token", {"first_token_delay_ms": 60_000}),
    ],
)
def test_a_client_gone_before_the_first_token_aborts_the_engine(
    engine: FakeEngineProcess, fleet: Fleet, node: str, moment: str, behaviour: dict[str, Any]
) -> None:
    agent = fleet.agent(node)
    engine.control(**behaviour)
    client = send_raw(agent, tokens=8)
    wait_until(lambda: engine.running() > 0, 20, f"a request {moment}")
    client.close()
    nothing_is_left(agent, engine)


@pytest.mark.parametrize("node", NODES)
def test_a_client_gone_with_the_last_byte_leaves_nothing(
    engine: FakeEngineProcess, fleet: Fleet, node: str
) -> None:
    agent = fleet.agent(node)
    client = send_raw(agent, tokens=8)
    received = b""
    while b"[DONE]" not in received:
        received += client.recv(65_536)
    client.close()
    nothing_is_left(agent, engine)
    assert engine.requests()[0]["state"] == "finished"


def test_a_slow_reader_over_a_hop_slows_no_neighbour(
    engine: FakeEngineProcess, fleet: Fleet
) -> None:
    agent = fleet.agent("gru-1")
    engine.control(tokens=200_000)
    slow = send_raw(agent, tokens=200_000)
    wait_until(lambda: engine.running() == 1, 20, "the long stream to run")
    engine.control()
    for _ in range(20):
        answer = agent.chat(stream=True)
        assert answer.status == 200
        assert answer.events()[-1] == "[DONE]"
    wait_until(lambda: engine.running() <= 1, 30, "the short streams to end")
    assert engine.running() == 1, "held back, not read into memory"
    slow.close()
    nothing_is_left(agent, engine)
