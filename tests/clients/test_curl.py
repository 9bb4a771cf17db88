"""curl against a fleet: old HTTP, compressed bodies, and spellings that are one address."""

from __future__ import annotations

import gzip
import json
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import WRITER
from tests.clients.installs import tool
from tests.clients.test_openai_python import TEXT
from tests.support.fleet import AgentClient

CLIENT = "curl"
BODY: dict[str, Any] = {"model": WRITER, "messages": [{"role": "user", "content": "hello"}]}
CHAT = "/v1/chat/completions"


def zstd(data: bytes) -> bytes:
    """Return a Zstandard frame of one raw block, of less than 256 bytes. Source: RFC 8878."""
    last_raw_block = (len(data) << 3 | 1).to_bytes(3, "little")
    return b"\x28\xb5\x2f\xfd\x20" + bytes([len(data)]) + last_raw_block + data


ENCODERS = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd, "identity": bytes}


@dataclass(frozen=True)
class Reply:
    """What curl printed: the last head, and the body."""

    status: int
    version: str
    heads: str
    body: bytes

    def header(self, name: str) -> str | None:
        lines = self.heads.strip().split("\n\n")[-1].splitlines()[1:]
        found = [line.partition(":")[2] for line in lines if line.lower().startswith(f"{name}:")]
        return found[0].strip() if found else None

    def text(self) -> str:
        return str(json.loads(self.body)["choices"][0]["message"]["content"])


class Curl:
    """curl with a fleet's key, in a folder for what it reads and writes."""

    def __init__(self, agent: AgentClient, folder: Path) -> None:
        self.agent = agent
        self.folder = folder
        self.program = tool(CLIENT, "curl")
        self.bearer = ("--header", f"Authorization: Bearer {agent.api_key}")

    def ask(self, path: str, *options: str, data: bytes | None = None) -> Reply:
        argv = [self.program, "--silent", "--show-error", "--max-time", "30", "--noproxy", "*"]
        argv += ["--dump-header", "head", "--output", "body", "--write-out", "%{http_code}"]
        if data is not None:
            (self.folder / "data").write_bytes(data)
            argv += ["--data-binary", "@data", "--header", "Content-Type: application/json"]
        argv += [*options, f"{self.agent.url}{path}"]
        done = subprocess.run(
            argv, cwd=self.folder, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        body = self.folder / "body"
        heads = (self.folder / "head").read_text()
        given = body.read_bytes() if body.exists() else b""
        return Reply(int(done.stdout), heads.split(" ", 1)[0], heads, given)

    def chat(self, *options: str, path: str = CHAT, **fields: Any) -> Reply:
        data = json.dumps(BODY | fields).encode()
        return self.ask(path, *self.bearer, *options, data=data)


@pytest.fixture
def curl(agent: AgentClient, tmp_path: Path) -> Curl:
    return Curl(agent, tmp_path)


def test_http_1_0_gets_a_length_and_no_100_continue(curl: Curl) -> None:
    answer = curl.chat("--http1.0", "--header", "Expect: 100-continue")
    assert (answer.status, answer.text()) == (200, TEXT)
    assert answer.header("content-length") == str(len(answer.body))
    assert "100 Continue" not in answer.heads


def test_a_stream_over_http_1_0_ends_with_its_connection_and_is_not_chunked(curl: Curl) -> None:
    """What is not decoded by curl would be seen in the body: it is asked to leave it raw."""
    answer = curl.chat("--http1.0", "--raw", stream=True)
    assert answer.status == 200
    assert answer.header("transfer-encoding") is None
    assert answer.body.startswith(b"data: {")
    assert answer.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "identity"])
def test_a_compressed_body_is_decoded(curl: Curl, encoding: str) -> None:
    sent = ENCODERS[encoding](json.dumps(BODY).encode())
    answer = curl.ask(CHAT, *curl.bearer, "--header", f"Content-Encoding: {encoding}", data=sent)
    assert answer.status == 200, answer.body
    assert answer.text() == TEXT


def test_an_unknown_encoding_is_415(curl: Curl) -> None:
    data = json.dumps(BODY).encode()
    answer = curl.ask(CHAT, *curl.bearer, "--header", "Content-Encoding: compress", data=data)
    assert answer.status == 415, answer.body


def test_a_client_that_takes_compressed_answers_can_read_ours(curl: Curl) -> None:
    answer = curl.chat("--compressed")
    assert (answer.status, answer.text()) == (200, TEXT)


def test_a_byte_order_mark_is_passed_over(curl: Curl) -> None:
    data = b"\xef\xbb\xbf" + json.dumps(BODY).encode()
    answer = curl.ask(CHAT, *curl.bearer, data=data)
    assert answer.status == 200, answer.body


def test_an_offer_of_http_2_is_passed_over(curl: Curl) -> None:
    answer = curl.chat("--http2")
    assert answer.status == 200, answer.body
    assert (answer.version, answer.text()) == ("HTTP/1.1", TEXT)


@pytest.mark.parametrize("path", [f"{CHAT}/", "/v1/ch%61t/completions"])
def test_every_spelling_of_an_address_is_that_address(curl: Curl, path: str) -> None:
    answer = curl.chat(path=path)
    assert answer.status == 200, answer.body


def test_an_absolute_target_is_the_same_address(curl: Curl) -> None:
    answer = curl.chat("--request-target", f"{curl.agent.url}{CHAT}")
    assert answer.status == 200, answer.body


@pytest.mark.parametrize("beside", [(), ("--header", "Authorization;")])
@pytest.mark.parametrize("path", [CHAT, "/v1/models"])
def test_x_api_key_is_taken_on_every_route_beside_an_empty_authorization_too(
    curl: Curl, path: str, beside: tuple[str, ...]
) -> None:
    key = ("--header", f"x-api-key: {curl.agent.api_key}")
    data = json.dumps(BODY).encode() if path == CHAT else None
    answer = curl.ask(path, *key, *beside, data=data)
    assert answer.status == 200, answer.body


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/ping", "/version"])
def test_health_is_told_without_a_key(curl: Curl, path: str) -> None:
    assert curl.ask(path).status == 200


def test_a_wrong_method_is_405_with_those_that_are_allowed(curl: Curl) -> None:
    answer = curl.ask(CHAT, *curl.bearer)
    assert answer.status == 405, answer.body
    assert "POST" in (answer.header("allow") or "")


def test_a_body_without_a_model_is_a_bad_request_that_names_the_field(curl: Curl) -> None:
    data = json.dumps({"messages": BODY["messages"]}).encode()
    answer = curl.ask(CHAT, *curl.bearer, data=data)
    assert answer.status == 400, answer.body
    assert json.loads(answer.body)["error"]["param"] == "model"


def test_every_answer_names_its_request_errors_and_lists_included(curl: Curl) -> None:
    answers = [
        curl.chat(),
        curl.chat(stream=True),
        curl.chat(model="nothing"),
        curl.ask("/v1/models", *curl.bearer),
        curl.ask("/v1/models"),
        curl.ask("/nothing", *curl.bearer),
    ]
    for answer in answers:
        assert answer.header("x-request-id"), answer.heads
        assert answer.header("x-edgeforge-trace-id") in (None, answer.header("x-request-id"))
        assert answer.header("request-id") == answer.header("x-request-id")
