"""The real vLLM under the supervisor: one start, one crash, one stop, and what it says meanwhile.

The order of the tests is the order of its life. It is also where the fake engine is held against
the real one, so that all tests that use the fake mean something.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.engine.guard import all_processes
from agent.formats import FORMATS
from agent.formats.continuing import ContinuableStream
from tests.support.engine_answers import ask, shape
from tests.support.engine_host import EngineHost
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

MODEL = "acme/small@1"
CHAT = "/v1/chat/completions"
COMPLETE = "/v1/completions"
RESPONSES = "/v1/responses"
ANTHROPIC = "/v1/messages"
COUNT_TOKENS = f"{ANTHROPIC}/count_tokens"
MESSAGES = [{"role": "user", "content": "Say hi"}]
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
FORCED: dict[str, dict[str, Any]] = {
    CHAT: {
        "messages": MESSAGES,
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": CITY}}],
        "tool_choice": "required",
        "max_tokens": 100,
    },
    RESPONSES: {
        "input": "hi",
        "tools": [{"type": "function", "name": "weather", "parameters": CITY}],
        "tool_choice": "required",
        "max_output_tokens": 100,
        "store": False,
    },
    ANTHROPIC: {
        "messages": MESSAGES,
        "tools": [{"name": "weather", "input_schema": CITY}],
        "tool_choice": {"type": "any"},
        "max_tokens": 100,
    },
}
CLIENT_BODIES = sorted((Path(__file__).parents[2] / "support" / "client_bodies").glob("*.json"))
COUNTING = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}


class Real:
    """The one engine of this module."""

    def __init__(self, host: EngineHost, uds: str, pid: int) -> None:
        self.host = host
        self.uds = uds
        self.pid = pid

    def family(self) -> set[int]:
        """Everything in the engine's session."""
        return {stat.pid for stat in all_processes() if stat.session == self.pid}


@pytest.fixture(scope="module")
def real(
    engine_environment: Path, small_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Real]:
    state_dir = tmp_path_factory.mktemp("real")
    with EngineHost(engine_environment, state_dir, model_dir=small_model_dir) as host:
        status = host.until("ready")
        yield Real(host, status["endpoint"]["uds_path"], status["pid"])


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeEngineProcess]:
    with FakeEngineProcess(MODEL, uds=tmp_path_factory.mktemp("fake") / "e.sock") as process:
        yield process


def shape_of_events(stream: bytes) -> list[Any]:
    events = stream.decode().split("\n\n")
    assert events.pop() == ""
    shapes: list[Any] = []
    for event in events:
        if event.startswith("event: "):
            name, _, event = event.partition("\n")
            shapes.append(name)
        data = event.removeprefix("data: ")
        assert data != event, "a line that is no data"
        if data == "[DONE]":
            shapes.append(data)
        else:
            parsed = json.loads(data)
            compact = json.dumps(parsed, separators=(",", ":"), ensure_ascii=False)
            assert data == compact, "not as the fake writes it"
            shapes.append(shape(parsed))
    return shapes


def gauge(uds: str, name: str) -> float:
    _status, text = ask(uds, "/metrics", None, "GET")
    found = re.search(rf"^{name}\{{[^}}]*\}} ([\d.]+)$", text.decode(), re.MULTILINE)
    assert found is not None
    return float(found.group(1))


def open_stream(uds: str) -> socket.socket:
    """Start a long answer and return its connection once tokens flow."""
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(30)
    stream.connect(uds)
    request = {"model": MODEL, "prompt": "A long story:", "max_tokens": 1500, "stream": True}
    body = json.dumps(request | {"ignore_eos": True}).encode()
    head = f"POST {COMPLETE} HTTP/1.1\r\nhost: e\r\ncontent-type: application/json\r\n"
    stream.sendall(head.encode() + f"content-length: {len(body)}\r\n\r\n".encode() + body)
    seen = b""
    while seen.count(b"data:") < 2:
        seen += stream.recv(65536)
    return stream


def test_it_continues_a_sentence(real: Real) -> None:
    body = {"model": MODEL, "prompt": "The quick brown fox jumps over the lazy", "temperature": 0}
    status, answer = ask(real.uds, COMPLETE, body | {"max_tokens": 1})
    assert status == 200
    assert json.loads(answer)["choices"][0]["text"] == " dog"


@pytest.mark.parametrize(
    ("path", "prompt"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "Tell me about the sea."}]}),
        (COMPLETE, {"prompt": "red, blue, red, blue, red, blue, red, blue, red,"}),
    ],
    ids=["chat", "completion"],
)
@pytest.mark.parametrize("break_after", [4, 11])
def test_a_stream_that_breaks_and_goes_on_says_what_it_would_have_said(
    real: Real, path: str, prompt: dict[str, object], break_after: int
) -> None:
    """The fields that continue an answer mean to vLLM what they mean to us.

    The prompts leave little doubt: with others this model was seen to go on in other words after
    50 to 80 characters, as it may when two words are about as likely or the seam splits a token.
    """
    body = {
        "model": MODEL,
        "temperature": 0,
        "max_tokens": 24,
        "stream": True,
        **COUNTING,
        **prompt,
    }
    api = FORMATS[path]
    whole = api.continuable_stream(body, include_usage=True, continuous_usage=False)
    assert whole is not None
    status, stream = ask(real.uds, path, body)
    assert status == 200
    whole.feed(stream)

    halves = ContinuableStream(include_usage=True, continuous_usage=False)
    events = stream.split(b"\n\n")[: break_after + (path == CHAT)]
    halves.feed(b"\n\n".join([*events, b""]))
    assert halves.completion_tokens == break_after
    halves.go_on()
    rest = api.continued(body, halves.text, halves.completion_tokens)
    status, stream = ask(real.uds, path, rest)
    assert status == 200, stream
    passed = halves.feed(stream)
    assert halves.done
    assert b'"role"' not in passed
    assert halves.text == whole.text
    assert halves.usage() == whole.usage()


#: On a busy host vLLM merges tokens into one event: then it is asked again, so often at most.
MOST_MERGED = 10


@pytest.mark.parametrize("extra", [{}, COUNTING], ids=["plain", "counting"])
@pytest.mark.parametrize(
    ("path", "prompt"),
    [
        (CHAT, {"messages": MESSAGES}),
        (COMPLETE, {"prompt": "Once upon"}),
        (RESPONSES, {"input": "Say hi", "store": False}),
        (ANTHROPIC, {"messages": MESSAGES}),
    ],
    ids=["chat", "complete", "responses", "messages"],
)
def test_the_fake_streams_as_the_real_one_does(
    real: Real, fake: FakeEngineProcess, path: str, prompt: dict[str, Any], extra: dict[str, Any]
) -> None:
    limit = "max_output_tokens" if path == RESPONSES else "max_tokens"
    body = {"model": MODEL, limit: 3, "stream": True, "temperature": 1.0, **prompt, **extra}
    assert fake.uds is not None
    fake_status, fake_stream = ask(fake.uds, path, body)
    assert fake_status == 200
    real_stream = b""
    for _ in range(MOST_MERGED):
        real_status, real_stream = ask(real.uds, path, body)
        assert real_status == 200
        if real_stream.count(b"\n\n") == fake_stream.count(b"\n\n"):
            break
    assert shape_of_events(fake_stream) == shape_of_events(real_stream)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": MESSAGES}),
        (COMPLETE, {"prompt": "Once upon"}),
        (CHAT, {"messages": "hi"}),
        (CHAT, {"messages": MESSAGES, "max_tokens": "four"}),
        (CHAT, {"messages": MESSAGES, "model": "other"}),
        (CHAT, {"messages": MESSAGES, "stream_options": {"include_usage": True}}),
        (COMPLETE, {"prompt": "a", "cache_salt": ""}),
        (COMPLETE, {"prompt": "a", "cache_salt": 5}),
        (COMPLETE, {"prompt": "a", "cache_salt": "a/b"}),
        (COMPLETE, {"prompt": "a", "cache_salt": "x" * 129}),
        (COMPLETE, {"prompt": "a", "cache_salt": "x" * 128}),
        (COMPLETE, {"prompt": "a", "zork": 1}),
        (RESPONSES, {"input": "Say hi", "max_output_tokens": 3}),
        (RESPONSES, {"input": "Say hi", "max_output_tokens": "four"}),
        (RESPONSES, {"input": "Say hi", "max_output_tokens": 3, "cache_salt": "a@b"}),
        (ANTHROPIC, {"messages": MESSAGES}),
        (ANTHROPIC, {"messages": "hi"}),
        (COUNT_TOKENS, {"messages": MESSAGES}),
        (COUNT_TOKENS, {"messages": "hi"}),
        ("/v1/embeddings", {"input": "a"}),
    ],
)
def test_the_fake_answers_as_the_real_one_does(
    real: Real, fake: FakeEngineProcess, path: str, body: dict[str, Any]
) -> None:
    body = {"model": MODEL, **body}
    if "max_tokens" not in body:
        body["max_tokens"] = 3
    assert fake.uds is not None
    real_status, real_answer = ask(real.uds, path, body)
    fake_status, fake_answer = ask(fake.uds, path, body)
    assert fake_status == real_status
    if real_status == 200:
        assert shape(json.loads(fake_answer)) == shape(json.loads(real_answer))
    else:
        assert json.loads(fake_answer) == json.loads(real_answer)


@pytest.mark.parametrize("path", list(FORCED))
def test_the_fake_calls_a_tool_as_the_real_one_does(
    real: Real, fake: FakeEngineProcess, path: str
) -> None:
    """As a stream; a model this small calls with arguments of any length and no sense."""
    body = {"model": MODEL, "stream": True, "temperature": 0, **FORCED[path]}
    assert fake.uds is not None
    fake.control(tool_call={"name": "weather", "arguments": {"city": "Recife"}}, remaining=1)
    shapes = []
    for uds in (real.uds, fake.uds):
        status, stream = ask(uds, path, body)
        assert status == 200, stream
        blocks = stream.decode().split("\n\n")[:-1]
        events = [_without_echo(shape_of_events(f"{one}\n\n".encode())) for one in blocks]
        shapes.append([one for one, _ in itertools.groupby(events)])
    assert shapes[1] == shapes[0]


def _without_echo(event: list[Any]) -> list[Any]:
    """Leave out the tools that an answer of Responses repeats; the fake repeats none."""
    fields = event[-1]
    if isinstance(fields, list) and fields[0][0] == "response":
        kept = [(key, inner) for key, inner in fields[0][1] if key != "tools"]
        return [*event[:-1], [("response", kept), *fields[1:]]]
    return event


@pytest.mark.parametrize("path", CLIENT_BODIES, ids=[path.stem for path in CLIENT_BODIES])
def test_the_fake_takes_and_refuses_what_clients_send_as_the_real_one_does(
    real: Real, fake: FakeEngineProcess, path: Path
) -> None:
    sent = json.loads(path.read_text())
    limit = "max_tokens" if ANTHROPIC in sent["path"] else "max_output_tokens"
    body = sent["body"] | {"model": MODEL, "stream": False, limit: 3}
    assert fake.uds is not None
    real_status, real_answer = ask(real.uds, sent["path"], body)
    fake_status, fake_answer = ask(fake.uds, sent["path"], body)
    assert fake_status == real_status
    assert real_status == 200 or json.loads(fake_answer) == json.loads(real_answer)


def test_malformed_json_is_a_400_of_both(real: Real, fake: FakeEngineProcess) -> None:
    assert fake.uds is not None
    for uds in (real.uds, fake.uds):
        status, answer = ask(uds, CHAT, b'{"model": ')
        assert status == 400
        assert "json_invalid" in json.loads(answer)["error"]["message"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "/collective_rpc",
        "/pause",
        "/resume",
        "/sleep",
        "/reset_prefix_cache",
        "/server_info",
        "/v1/load_lora_adapter",
        "/docs",
    ],
)
def test_development_routes_do_not_exist(real: Real, path: str, method: str) -> None:
    status, _answer = ask(real.uds, path, {} if method == "POST" else None, method)
    assert status == 404


def test_a_client_that_leaves_is_forgotten_within_a_second(real: Real) -> None:
    stream = open_stream(real.uds)
    assert gauge(real.uds, "vllm:num_requests_running") == 1
    stream.close()
    wait_until(
        lambda: gauge(real.uds, "vllm:num_requests_running") == 0, 1, "the request is aborted"
    )


def test_a_crash_in_a_stream_and_the_way_back(real: Real) -> None:
    before = real.family()
    assert len(before) >= 4
    shared = shared_memory_of(before)
    assert shared
    stream = open_stream(real.uds)
    os.kill(real.pid, signal.SIGKILL)
    rest = b""
    while data := stream.recv(65536):
        rest += data
    stream.close()
    assert b"[DONE]" not in rest
    assert real.host.until("backoff")["last_error"] == "killed by signal 9"
    assert not real.family()
    assert not [path for path in shared if Path(path).exists()]
    status = real.host.until("ready")
    assert (status["generation"], status["restarts"]) == (2, 1)
    real.pid = status["pid"]
    code, _answer = ask(real.uds, COMPLETE, {"model": MODEL, "prompt": "a", "max_tokens": 1})
    assert code == 200


def shared_memory_of(pids: set[int]) -> set[str]:
    """Return the paths of the shared memory that ``pids`` have mapped."""
    maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in pids)
    return set(re.findall(r"/dev/shm/\S+(?=\n)", maps))


def test_a_stop_with_a_stream_open_leaves_nothing(real: Real) -> None:
    stream = open_stream(real.uds)
    real.host.close()
    assert real.host.process.returncode == 0
    assert not real.family()
    stream.close()
