"""What ``make up`` starts: the real vLLM behind a real fleet, and the unmodified openai client."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.support.fake_engine_process import UnixHTTPConnection
from tests.support.fleet import AgentClient, Fleet
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(600)

DEPLOYMENT = "smollm2-135m-instruct"
QUESTION = [
    {"role": "system", "content": "You are a helpful assistant"},
    {"role": "user", "content": "What is the capital of France?"},
]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("r"), []) as running:
        yield running


def client_of(agent: AgentClient) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{agent.url}/v1", api_key=agent.api_key, max_retries=0)


@pytest.mark.parametrize("node", ["iad-1", "gru-1"])
def test_the_openai_client_gets_a_real_answer(fleet: Fleet, node: str) -> None:
    with client_of(fleet.agent(node)) as client:
        assert [model.id for model in client.models.list()] == [DEPLOYMENT]
        whole = client.chat.completions.create(
            model=DEPLOYMENT, messages=QUESTION, temperature=0, max_tokens=24
        )
        assert whole.choices[0].message.content == "The capital of France is Paris."
        assert whole.usage is not None
        assert whole.usage.completion_tokens > 0
        stream = client.chat.completions.create(
            model=DEPLOYMENT, messages=QUESTION, temperature=0, max_tokens=24, stream=True
        )
        chunks = list(stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == "The capital of France is Paris."
        assert all(chunk.usage is None for chunk in chunks)


def test_usage_comes_with_a_stream_only_when_asked(fleet: Fleet) -> None:
    with client_of(fleet.agent("gru-1")) as client:
        stream = client.chat.completions.create(
            model=DEPLOYMENT,
            messages=QUESTION,
            temperature=0,
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
        usages = [chunk.usage for chunk in stream if chunk.usage is not None]
    assert len(usages) == 1
    assert usages[0].completion_tokens == 8


@pytest.mark.parametrize("node", ["iad-1", "gru-1"])
def test_errors_are_the_clients_own_exception_classes(fleet: Fleet, node: str) -> None:
    agent = fleet.agent(node)
    with client_of(agent) as client:
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="nobody", messages=QUESTION)
        with pytest.raises(openai.BadRequestError, match="Input should be a valid list"):
            client.chat.completions.create(model=DEPLOYMENT, messages="hi")
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(
                model=DEPLOYMENT, messages=QUESTION, extra_body={"chat_template": "x"}
            )
    with (
        openai.OpenAI(base_url=f"{agent.url}/v1", api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


def test_a_client_that_leaves_aborts_the_generation_in_vllm(fleet: Fleet) -> None:
    engine_socket = _engine_socket(fleet)
    for node in ("iad-1", "gru-1"):
        with client_of(fleet.agent(node)) as client:
            stream = client.chat.completions.create(
                model=DEPLOYMENT,
                messages=QUESTION,
                stream=True,
                max_tokens=1_500,
                extra_body={"ignore_eos": True},
            )
            next(iter(stream))
            assert _running(engine_socket) == 1
            stream.close()
        wait_until(lambda: _running(engine_socket) == 0, 1.0, "vLLM to have aborted the request")


def test_vllm_killed_mid_stream_is_an_error_event_and_it_comes_back(fleet: Fleet) -> None:
    agent = fleet.agent("gru-1")
    engine_pid = fleet.agent("iad-1").status()["engine"]["pid"]
    with client_of(agent) as client:
        stream = client.chat.completions.create(
            model=DEPLOYMENT,
            messages=QUESTION,
            stream=True,
            max_tokens=1_500,
            extra_body={"ignore_eos": True},
        )
        chunks = iter(stream)
        next(chunks)
        os.kill(engine_pid, signal.SIGKILL)
        with pytest.raises(openai.APIError):
            for _ in chunks:
                pass
    wait_until(lambda: agent.chat(max_tokens=4).status == 200, 120, "vLLM to serve again")
    assert fleet.agent("iad-1").status()["engine"]["restarts"] >= 1


def test_development_routes_of_vllm_cannot_be_reached(fleet: Fleet) -> None:
    for agent in fleet.agents():
        for path in ("/collective_rpc", "/pause", "/v1/load_lora_adapter", "/metrics", "/tokenize"):
            answer = agent.send({}, path=path)
            assert answer.status == 404
            assert answer.json()["error"]["code"] == "unknown_url"


def _engine_socket(fleet: Fleet) -> Path:
    (found,) = (fleet.state_dir / "agents/iad-1/engine/run").glob("*.sock")
    return found


def _running(engine_socket: Path) -> int:
    connection = UnixHTTPConnection(str(engine_socket))
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    values = [
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("vllm:num_requests_running")
    ]
    return int(sum(values))
