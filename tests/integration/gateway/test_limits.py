"""Strangers and hostile bodies against a real agent: its memory, its answers meanwhile."""

from __future__ import annotations

import json
import socket
import threading
from urllib.parse import urlsplit

import pytest

from tests.bench.relay import rss_mb
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet
from tests.support.waiting import wait_until

BODY_BYTES = 8 * 1024 * 1024
#: 100 bodies that were held would take 800 MB.
MAX_GROWTH_MB = 100.0


def connect(agent: AgentClient) -> socket.socket:
    parts = urlsplit(agent.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def test_a_hundred_unfinished_bodies_without_a_key_cost_no_memory(fleet: Fleet) -> None:
    agent = fleet.agent("iad-1")
    before_mb = rss_mb(agent.pid)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {BODY_BYTES}\r\n\r\n"
    held = []
    for _ in range(100):
        one = connect(agent)
        one.sendall(head.encode() + b"{" * 65_536)
        held.append(one)
    try:
        for one in held:
            assert one.recv(65_536).startswith(b"HTTP/1.1 401")
        assert rss_mb(agent.pid) - before_mb < MAX_GROWTH_MB
        assert agent.chat().status == 200
    finally:
        for one in held:
            one.close()


@pytest.mark.parametrize("node", ["iad-1", "gru-1"])
@pytest.mark.parametrize("unit", [b"[],", b'{"a":1},', b'"k",', b"1,"])
def test_a_body_of_too_many_values_is_400_and_others_are_answered_meanwhile(
    fleet: Fleet, engine: FakeEngineProcess, node: str, unit: bytes
) -> None:
    agent = fleet.agent(node)
    units = unit * (BODY_BYTES // len(unit) - 100)
    body = b'{"model":"acme-chat","messages":[],"metadata":[' + units + b"1]}"
    over = threading.Event()
    statuses: list[int] = []

    def ask() -> None:
        connection = agent.connect()
        while not over.is_set():
            connection.request("GET", "/livez")
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        answer = agent.send(body)
        wait_until(lambda: statuses, 30, "an answer meanwhile")
    finally:
        over.set()
        thread.join()
    assert answer.status == 400
    assert "the body has more than" in answer.json()["error"]["message"]
    assert set(statuses) == {200}
    assert not engine.requests()


@pytest.mark.parametrize("node", ["iad-1", "gru-1"])
def test_a_long_text_reaches_the_engine_unchanged(
    fleet: Fleet, engine: FakeEngineProcess, node: str
) -> None:
    text = 'a "quoted"\nline, [of] {text}, 中文 😀; ' * 60_000
    messages = [{"role": "user", "content": text}]
    answer = fleet.agent(node).chat(messages=messages, truncate_prompt_tokens=9)
    assert answer.status == 200, answer.body[:300]
    (asked,) = engine.requests()
    assert asked["body"]["messages"] == messages


def test_a_customer_is_answered_while_one_address_opens_connections_to_the_peer_port(
    fleet: Fleet,
) -> None:
    agent, port = fleet.agent("iad-1"), fleet.peer_port("iad-1")
    held = []
    try:
        for _ in range(2_000):
            address = ("127.0.0.1", port)
            held.append(socket.create_connection(address, 20, source_address=("127.0.0.66", 0)))
        assert agent.chat().status == 200
        assert fleet.agent("gru-1").chat().status == 200, "a peer gets in"
        lines = fleet.metrics("iad-1").splitlines()
        (unknown,) = [one for one in lines if one.startswith("edgeforge_peer_connections_unknown ")]
        assert float(unknown.split()[1]) <= 512
    finally:
        for one in held:
            one.close()


def test_a_repeated_residency_is_refused_and_nobody_is_asked(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    agent = fleet.agent("iad-1")
    body = json.dumps({"model": "acme-chat", "messages": []}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
        f"authorization: Bearer {agent.api_key}\r\n"
        f"x-edgeforge-residency: BR\r\nX-EdgeForge-Residency: US\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    with connect(agent) as connection:
        connection.sendall(head.encode() + body)
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"given twice" in answer
    assert not engine.requests()
