"""What clients, browsers, load balancers and proxies do today, against a running fleet."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from urllib.parse import urlsplit

import anthropic
import openai
import pytest
import zstandard

from tests.integration.gateway.conftest import APP_ORIGIN, SERVED_TOKENS
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"


def body_of(agent: AgentClient, **fields: object) -> bytes:
    messages = [{"role": "user", "content": "hello"}]
    return json.dumps({"model": agent.model, "messages": messages} | fields).encode()


def talk(agent: AgentClient, *requests: str | bytes) -> bytes:
    """Send bytes as they are on one connection and return all that comes until its end."""
    parts = urlsplit(agent.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        for request in requests:
            connection.sendall(request if isinstance(request, bytes) else request.encode())
        answer = b""
        while data := connection.recv(65_536):
            answer += data
    return answer


@pytest.mark.parametrize("path", ["/health", "/ping", "/readyz", "/livez", "/version"])
def test_load_balancers_find_their_health_routes_on_the_client_port(
    fleet: Fleet, engine: FakeEngineProcess, path: str
) -> None:
    """On one connection, without a key; a site without an engine serves through others."""
    for node in ("iad-1", "gru-1"):
        agent = fleet.agent(node)
        connection = agent.connect()
        for method in ("GET", "HEAD", "GET"):
            connection.request(method, path)
            response = connection.getresponse()
            said = response.read()
            assert response.status == 200
            assert response.headers["x-request-id"]
            assert agent.node.encode() not in said
        connection.close()
    assert path not in [one["path"] for one in engine.requests()]


def test_the_clients_of_openai_and_anthropic_know_the_id_of_their_request(fleet: Fleet) -> None:
    agent = fleet.agent("gru-1")
    asked = {"model": agent.model, "messages": [{"role": "user", "content": "hello"}]}
    with openai.OpenAI(base_url=f"{agent.url}/v1", api_key=agent.api_key, max_retries=0) as client:
        answer = client.chat.completions.create(**asked)
        assert answer._request_id == agent.last_request()["trace_id"]
        with pytest.raises(openai.NotFoundError) as refused:
            client.chat.completions.create(**(asked | {"model": "nosuch"}))
        assert refused.value.request_id
        with pytest.raises(openai.NotFoundError) as unknown:
            client.models.retrieve("nosuch")
        assert unknown.value.request_id
    with anthropic.Anthropic(base_url=agent.url, api_key=agent.api_key, max_retries=0) as client:
        message = client.messages.create(max_tokens=10, **asked)
        assert message._request_id == agent.last_request()["trace_id"]
        with pytest.raises(anthropic.NotFoundError) as refused_message:
            client.messages.create(max_tokens=10, **(asked | {"model": "nosuch"}))
        assert refused_message.value.request_id


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_page_of_a_configured_origin_asks_and_reads_and_no_other_does(
    fleet: Fleet, path: str
) -> None:
    agent = fleet.agent("iad-1")
    for origin, allowed in ((APP_ORIGIN, True), ("https://evil.test", False)):
        connection = agent.connect()
        asked = {"origin": origin, "access-control-request-method": "POST"}
        connection.request("OPTIONS", path, headers=asked)
        preflight = connection.getresponse()
        preflight.read()
        assert preflight.status == 204
        assert ("access-control-allow-methods" in preflight.headers) is allowed
        connection.close()
        for key, stream, status in (
            (agent.api_key, False, 200),
            (agent.api_key, True, 200),
            ("", False, 401),
        ):
            answer = agent.send(
                body_of(agent, stream=stream, max_tokens=10),
                path=path,
                headers={"origin": origin, "authorization": f"Bearer {key}"},
            )
            assert answer.status == status, answer.body
            assert answer.headers.get("access-control-allow-origin") == (
                origin if allowed else None
            )


@pytest.mark.parametrize(
    "target",
    ["{origin}/v1/chat/completions", "/v1/%63hat/completions", "/v1/chat/completions/?x=1"],
)
def test_a_generation_is_served_however_its_target_is_spelled(
    fleet: Fleet, engine: FakeEngineProcess, target: str
) -> None:
    for node in ("iad-1", "gru-1"):
        agent, body = fleet.agent(node), b""
        engine.forget()
        body = body_of(agent)
        head = (
            f"POST {target.format(origin=agent.url)} HTTP/1.1\r\nhost: x\r\n"
            f"x-api-key: {agent.api_key}\r\nauthorization:\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        assert talk(agent, head, body).startswith(b"HTTP/1.1 200 OK\r\n")
        assert [one["path"] for one in engine.requests()] == [CHAT]


def test_an_h2c_offer_with_a_body_is_served(fleet: Fleet) -> None:
    agent = fleet.agent("iad-1")
    answer = agent.chat(
        headers={
            "connection": "Upgrade, HTTP2-Settings",
            "upgrade": "h2c",
            "http2-settings": "AAMAAABk",
        }
    )
    assert answer.status == 200, answer.body


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("zstd", zstandard.ZstdCompressor().compress),
    ],
)
def test_a_compressed_body_is_served(fleet: Fleet, encoding: str, encode: object) -> None:
    for node in ("iad-1", "gru-1"):
        agent = fleet.agent(node)
        answer = agent.send(encode(body_of(agent)), headers={"content-encoding": encoding})
        assert answer.status == 200, answer.body


def test_models_are_listed_with_the_context_that_is_served_and_found_by_both_names(
    fleet: Fleet,
) -> None:
    agent = fleet.agent("gru-1")
    with openai.OpenAI(base_url=f"{agent.url}/v1", api_key=agent.api_key) as client:
        (listed,) = client.models.list()
        assert listed.max_model_len == SERVED_TOKENS
        assert client.models.retrieve(agent.model).id == agent.model
        assert client.models.retrieve(listed.root).id == listed.root
    assert agent.chat(model=listed.root).status == 200


def test_http_1_0_is_answered_with_a_length_and_closed(fleet: Fleet) -> None:
    agent = fleet.agent("iad-1")
    body = body_of(agent)
    head = (
        f"POST {CHAT} HTTP/1.0\r\nauthorization: bearer {agent.api_key}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    head_of_answer, _, said = talk(agent, head, body).partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(said) in head_of_answer
    assert json.loads(said)["choices"]
