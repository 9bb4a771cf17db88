"""What a client may not do, and that no engine ever hears of it."""

from __future__ import annotations

import gzip
import json
import socket
from urllib.parse import urlsplit

import pytest

from tests.support.engine_routes import PRIVATE
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet


def ask_raw(agent: AgentClient, method: str, target: str) -> tuple[int, bytes]:
    """Send a request target as it is; client libraries would tidy it up."""
    parts = urlsplit(agent.url)
    body = b"{}"
    head = (
        f"{method} {target} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
        f"authorization: Bearer {agent.api_key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        connection.sendall(head.encode("latin-1") + body)
        answer = b""
        while data := connection.recv(65_536):
            answer += data
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]


def asked(engine: FakeEngineProcess) -> list[str]:
    """Paths of what reached the engine for a client."""
    return [one["path"] for one in engine.requests()]


@pytest.mark.parametrize("node", ["iad-1", "gru-1"])
@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (400, b'{"model": ', {}),
        (400, b"[]", {}),
        (400, b'{"model": "acme-chat", "priority": 1}', {}),
        (400, b'{"model": "acme-chat", "a": ' + b"[" * 300 + b"]" * 300 + b"}", {}),
        (404, b'{"model": "nosuch"}', {}),
        (400, b"{}", {}),
        (400, b'{"model": 5}', {}),
        (401, b'{"model": "acme-chat"}', {"authorization": ""}),
        (401, b'{"model": "acme-chat"}', {"authorization": "Bearer wrong"}),
        (415, b'{"model": "acme-chat"}', {"content-encoding": "br"}),
        (400, b'{"model": "acme-chat"}', {"content-encoding": "gzip"}),
        (413, gzip.compress(bytes(64 * 1024 * 1024)), {"content-encoding": "gzip"}),
        (431, b'{"model": "acme-chat"}', {"x-long": "x" * 200_000}),
    ],
)
def test_a_refused_request_gets_an_openai_error_and_the_engine_is_untouched(
    fleet: Fleet,
    engine: FakeEngineProcess,
    node: str,
    status: int,
    body: bytes,
    headers: dict[str, str],
) -> None:
    answer = fleet.agent(node).send(body, headers=headers)
    assert answer.status == status, answer.body
    assert answer.json()["error"]["message"]
    assert asked(engine) == []


def test_a_body_that_announces_more_than_the_limit_is_413_before_it_is_sent(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    agent = fleet.agent("iad-1")
    connection = agent.connect()
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("authorization", f"Bearer {agent.api_key}")
    connection.putheader("content-length", str(10**12))
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 413
    assert json.loads(response.read())["error"]["message"]
    connection.close()
    assert asked(engine) == []


@pytest.mark.parametrize(
    "target",
    [
        "/collective_rpc",
        "/pause",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/sleep",
        "/reset_prefix_cache",
        "/tokenize",
        "//collective_rpc",
        "/v1/../collective_rpc",
        "/v1/chat/completions/../../../pause",
        "/v1/chat/completions/%2e%2e/%2e%2e/pause",
        "/v1/%2e%2e/pause",
        "/v1//load_lora_adapter",
        "/%70ause",
        "/pause;/v1/chat/completions",
        "/pause?/v1/chat/completions",
        "http://127.0.0.1/pause",
        "http://engine/v1/load_lora_adapter",
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_development_route_is_never_asked_of_the_engine(
    fleet: Fleet, engine: FakeEngineProcess, method: str, target: str
) -> None:
    status, body = ask_raw(fleet.agent("iad-1"), method, target)
    assert status in ((404,) if target.startswith("/") else (400, 404)), body
    assert json.loads(body)["error"]["message"]
    assert asked(engine) == []


def test_no_route_of_a_controlled_engine_is_reached_by_a_client(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    for method in ("POST", "GET", "DELETE"):
        for path in PRIVATE:
            status, _body = ask_raw(fleet.agent("iad-1"), method, path)
            # The agent answers some questions of health itself.
            assert status in (404, 405) or path in ("/ping", "/version"), path
    assert asked(engine) == []


@pytest.mark.parametrize(("method", "status"), [("POST", 405), ("GET", 404)])
def test_a_path_that_starts_as_the_list_of_models_does_is_answered_by_the_agent(
    fleet: Fleet, engine: FakeEngineProcess, method: str, status: int
) -> None:
    target = "/v1/models/../load_lora_adapter"
    assert ask_raw(fleet.agent("iad-1"), method, target)[0] == status
    assert asked(engine) == []


def test_a_wrong_type_is_the_engines_own_400(fleet: Fleet, engine: FakeEngineProcess) -> None:
    for node in ("iad-1", "gru-1"):
        engine.forget()
        answer = fleet.agent(node).chat(messages="no list")
        assert answer.status == 400, answer.body
        assert answer.json()["error"]["message"]
        assert asked(engine) == ["/v1/chat/completions"]


@pytest.mark.parametrize("node", ["iad-1", "gru-1"])
def test_forged_internal_headers_change_nothing(
    fleet: Fleet, engine: FakeEngineProcess, node: str
) -> None:
    agent = fleet.agent(node)
    forged = {
        "x-edgeforge-trace-id": "forged-trace",
        "x-edgeforge-account": "somebody",
        "x-edgeforge-model": "other/model@1",
        "x-edgeforge-deployment": "other",
        "x-edgeforge-load": "in_flight=9999;queued=9999",
        "x-request-id": "forged-request",
    }
    body = {"model": agent.model, "messages": [{"role": "user", "content": "hello"}]}
    answer = agent.send(body, headers=forged)
    assert answer.status == 200, answer.body
    assert answer.headers["x-edgeforge-trace-id"] != "forged-trace"
    record = agent.last_request()
    assert record["trace_id"] == answer.headers["x-edgeforge-trace-id"]
    assert record["deployment"] == agent.model
    assert record["account"] not in ("somebody", "")
    assert "forged" not in json.dumps(engine.requests())
