"""Hundreds of hostile bodies over real sockets: each gets an answer, and the agent stays up."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet

PATHS = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
]
EVERY_FORMAT = pytest.mark.parametrize("path", PATHS)
BODIES_A_FORMAT = 100
NAMES = [
    "model",
    "messages",
    "prompt",
    "input",
    "system",
    "content",
    "stream",
    "stream_options",
    "tools",
    "type",
    "n",
    "max_tokens",
    "chat_template",
    "previous_response_id",
    "cache_salt",
    "image_url",
    "\ud800",
    "\u0000",
    "",
]
RAW = [
    b"",
    b"null",
    b"[]",
    b'"model"',
    b"{",
    b'{"model": "acme-chat", "model": 5, "model": "acme-chat"}',
    b'{"model": "acme-chat", "temperature": NaN}',
    b'{"model": "acme-chat", "temperature": -Infinity}',
    b'{"model": "acme-chat", "n": 1e999}',
    b'{"model": "acme-chat", "max_tokens": ' + b"9" * 5_000 + b"}",
    b'{"model": "acme-chat", "prompt": "\xff\xfe"}',
    b'{"model": "acme-chat", "prompt": "\\ud800"}',
    b'{"model": "acme-chat", "prompt": "\\udc00\\ud800"}',
    b'\xef\xbb\xbf{"model": "acme-chat"}',
    '{"model": "acme-chat"}'.encode("utf-16"),
    b'{"model": "acme-chat", "a": ' + b'{"b": ' * 900 + b"1" + b"}" * 900 + b"}",
    b'{"model": "acme-chat", "a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    b'{"model": "acme-chat"}\x00',
    b"model=acme-chat&messages=hello",
    b"--x\r\ncontent-disposition: form-data; name=model\r\n\r\nacme-chat\r\n--x--",
]


def hostile(source: random.Random, depth: int = 4) -> Any:
    """Return some value that a client should not send."""
    kinds: list[Callable[[], Any]] = [
        lambda: None,
        lambda: source.random() < 0.5,
        lambda: source.choice([0, -1, 2**31, 2**63, 10**30, 1.5, -0.0, 1e308]),
        lambda: source.choice(["", "acme-chat", "true", "http://127.0.0.1/", "\x00", "x" * 3_000]),
        lambda: source.choice(NAMES),
    ]
    if depth:
        kinds += [
            lambda: [hostile(source, depth - 1) for _ in range(source.randrange(4))],
            lambda: {
                source.choice(NAMES): hostile(source, depth - 1) for _ in range(source.randrange(5))
            },
        ]
    return source.choice(kinds)()


def hostile_bodies(path: str) -> Iterator[bytes]:
    source = random.Random(path)
    yield from RAW
    for number in range(BODIES_A_FORMAT - len(RAW)):
        body = {source.choice(NAMES): hostile(source) for _ in range(6)}
        if number % 4:
            body["model"] = "acme-chat"
        data = json.dumps(body).encode()
        yield data[: source.randrange(len(data))] if number % 10 == 9 else data


def assert_answer(path: str, status: int, headers: dict[str, str], body: bytes) -> None:
    """An answer of HTTP, and of the format it was asked in."""
    assert 200 <= status < 500, (status, body)
    if status == 200:
        return
    assert headers["content-type"] == "application/json"
    told = json.loads(body)
    assert told["error"]["message"]
    assert (told.get("type") == "error") is path.startswith("/v1/messages")


@EVERY_FORMAT
def test_hostile_bodies_are_answered_in_the_formats_words_and_the_agent_stays_up(
    fleet: Fleet, engine: FakeEngineProcess, path: str
) -> None:
    for node in ("iad-1", "gru-1"):
        agent = fleet.agent(node)
        connection = agent.connect()
        for body in hostile_bodies(path):
            answer = agent.send(body, path=path, connection=connection)
            assert_answer(path, answer.status, answer.headers, answer.body)
        connection.close()
        assert agent.status()["ready"]
        assert agent.chat().status == 200
    assert "Traceback" not in fleet.log("iad-1") + fleet.log("gru-1")


@EVERY_FORMAT
@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "", "\xff"])
def test_a_wrong_content_type_is_read_as_json_all_the_same(
    fleet: Fleet, engine: FakeEngineProcess, path: str, kind: str
) -> None:
    answer = fleet.agent("iad-1").send(b"{", path=path, headers={"content-type": kind})
    assert answer.status == 400
    assert_answer(path, answer.status, answer.headers, answer.body)


@EVERY_FORMAT
def test_headers_of_a_megabyte_are_431_in_the_formats_words(
    fleet: Fleet, engine: FakeEngineProcess, path: str
) -> None:
    agent = fleet.agent("iad-1")
    status, body = talk(agent, path, b"x-long: " + b"x" * 1_000_000 + b"\r\n", b"")
    assert status == 431
    assert_answer(path, status, {"content-type": "application/json"}, body)
    assert path not in [one["path"] for one in engine.requests()]


@EVERY_FORMAT
def test_a_body_that_never_ends_is_413_in_the_formats_words(
    fleet: Fleet, engine: FakeEngineProcess, path: str
) -> None:
    agent = fleet.agent("iad-1")
    piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    status, body = talk(agent, path, b"transfer-encoding: chunked\r\n", piece, again=64)
    assert status == 413
    assert_answer(path, status, {"content-type": "application/json"}, body)
    assert path not in [one["path"] for one in engine.requests()]


def talk(
    agent: AgentClient, path: str, header: bytes, piece: bytes, *, again: int = 1
) -> tuple[int, bytes]:
    """Send a head and up to ``again`` pieces, until the agent has had enough; read its answer."""
    parts = urlsplit(agent.url)
    head = f"POST {path} HTTP/1.1\r\nhost: {parts.netloc}\r\n".encode()
    head += f"authorization: Bearer {agent.api_key}\r\n".encode()
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        try:
            connection.sendall(head + header + b"\r\n")
            for _ in range(again):
                connection.sendall(piece)
        except OSError:
            pass  # it has answered, and reads no more
        answer = b""
        while data := connection.recv(65_536):
            answer += data
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]
