"""What ``make up`` starts: three real vLLM in five sites, and customers' unmodified clients."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.support.fake_engine_process import UnixHTTPConnection
from tests.support.fleet import AgentClient, Fleet
from tests.support.waiting import wait_until, waited_s, within_at_best

pytestmark = pytest.mark.timeout(900)

DEPLOYMENT = "smollm2-135m-instruct"
#: Made on this machine, imported and deployed by ``up``.
BROUGHT = ["smollm2-135m-lora", "smollm2-135m-tuned"]
#: Time enough for IAD, the cheapest, on any machine.
PATIENT = {"x-edgeforge-ttft-budget-ms": "60000"}
QUESTION = [
    {"role": "system", "content": "You are a helpful assistant"},
    {"role": "user", "content": "What is the capital of France?"},
]
#: Its every value is short, whatever a small model makes of it.
CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": CITY, "strict": True}}
HERE_AND_OVER_A_HOP = pytest.mark.parametrize("node", ["iad-1", "gru-1"])


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("r"), []) as running:
        yield running


def test_the_demonstration_tells_what_happened(fleet: Fleet) -> None:
    told = json.loads(fleet.edgeforge("demo", "--json", state_dir=True))
    placed, brought = told[:4], told[4:]
    assert [(one["via"], one["budget_ms"]) for one in placed] == [
        ("GRU", 180),
        ("GRU", 2_000),
        ("BOM", 250),
        ("LAG", 80),
    ]
    assert [one["deployment"] for one in brought] == BROUGHT
    assert all(one["cost_nano_usd"] > 0 and one["trace_id"] for one in brought)
    for one in placed:
        chosen = [
            candidate["node_id"]
            for candidate in one["explanation"]["candidates"]
            if candidate["chosen"]
        ]
        assert len(chosen) == 1
        assert one["cost_nano_usd"] > 0
        assert one["trace_id"]
    # True of any machine, however busy: time enough for the cheapest, and none for anybody.
    assert told[1]["node"] == "iad-1"
    assert told[3]["predicted_miss"]


@pytest.mark.parametrize("deployment", BROUGHT)
def test_brought_weights_answer_otherwise_than_the_base(fleet: Fleet, deployment: str) -> None:
    asked: dict[str, Any] = {"temperature": 0, "max_tokens": 16, "extra_headers": PATIENT}
    asked |= {"messages": [{"role": "user", "content": "Name three colours."}]}
    with client_of(fleet.agent("gru-1")) as client:
        base = client.chat.completions.create(model=DEPLOYMENT, **asked)
        brought = client.chat.completions.create(model=deployment, **asked)
    assert brought.model == deployment
    assert brought.choices[0].message.content != base.choices[0].message.content


def client_of(agent: AgentClient) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{agent.url}/v1", api_key=agent.api_key, max_retries=0)


@pytest.mark.parametrize("node", ["iad-1", "bom-1"])
def test_the_openai_client_gets_a_real_answer(fleet: Fleet, node: str) -> None:
    with client_of(fleet.agent(node)) as client:
        assert {model.id for model in client.models.list()} == {DEPLOYMENT, *BROUGHT}
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


@HERE_AND_OVER_A_HOP
def test_the_anthropic_client_talks_and_streams(fleet: Fleet, node: str) -> None:
    agent = fleet.agent(node)
    asked: dict[str, Any] = {"model": DEPLOYMENT, "max_tokens": 24}
    asked |= {"extra_body": {"temperature": 0}}
    asked |= {"system": QUESTION[0]["content"], "messages": QUESTION[1:]}
    with anthropic.Anthropic(base_url=agent.url, api_key=agent.api_key, max_retries=0) as client:
        message = client.messages.create(**asked)
        assert message.content[0].type == "text"
        assert message.content[0].text == "The capital of France is Paris."
        assert message.stop_reason == "end_turn"
        assert_metered(agent, message.usage.input_tokens, message.usage.output_tokens)
        told = client.messages.count_tokens(
            model=DEPLOYMENT, system=asked["system"], messages=asked["messages"]
        )
        assert told.input_tokens == message.usage.input_tokens
        turns = [*QUESTION[1:], {"role": "assistant", "content": message.content[0].text}]
        turns.append({"role": "user", "content": "And of Italy?"})
        with client.messages.stream(**asked | {"messages": turns}) as stream:
            assert "".join(stream.text_stream)
            final = stream.get_final_message()
        assert final.usage.input_tokens > message.usage.input_tokens
        assert_metered(agent, final.usage.input_tokens, final.usage.output_tokens)
        assert agent.last_request()["ttft_ms"] > 0
        with pytest.raises(anthropic.BadRequestError, match="max_tokens"):
            client.messages.create(**asked | {"max_tokens": -1})


def test_the_anthropic_client_gets_a_tool_call(fleet: Fleet) -> None:
    agent = fleet.agent("gru-1")
    asked: dict[str, Any] = {"model": DEPLOYMENT, "max_tokens": 200, "messages": QUESTION[1:]}
    asked |= {"extra_body": {"temperature": 0}}
    asked |= {"tools": [{"name": "weather", "input_schema": CITY, "strict": True}]}
    with anthropic.Anthropic(base_url=agent.url, api_key=agent.api_key, max_retries=0) as client:
        for choice in ({"type": "any"}, {"type": "tool", "name": "weather"}):
            with client.messages.stream(**asked, tool_choice=choice) as stream:
                final = stream.get_final_message()
            (call,) = [block for block in final.content if block.type == "tool_use"]
            assert call.name == "weather"
            assert call.input["city"] in ("Paris", "Rome")


@HERE_AND_OVER_A_HOP
def test_the_openai_client_gets_responses(fleet: Fleet, node: str) -> None:
    agent = fleet.agent(node)
    asked: dict[str, Any] = {"model": DEPLOYMENT, "temperature": 0, "max_output_tokens": 24}
    with client_of(agent) as client:
        whole = client.responses.create(input=QUESTION, **asked)
        assert whole.output_text == "The capital of France is Paris."
        assert whole.usage is not None
        assert_metered(agent, whole.usage.input_tokens, whole.usage.output_tokens)
        with client.responses.stream(input=QUESTION, **asked) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_response()
        assert kinds[0] == "response.created"
        assert kinds.count("response.output_text.delta") >= 5
        assert final.output_text == whole.output_text
        assert final.usage is not None
        assert_metered(agent, final.usage.input_tokens, final.usage.output_tokens)
        turns = [*QUESTION, {"role": "assistant", "content": whole.output_text}]
        turns.append({"role": "user", "content": "And of Italy?"})
        formatted = client.responses.create(
            input=turns,
            text={"format": {"type": "json_schema", "name": "city", "schema": CITY}},
            **asked | {"max_output_tokens": 200},
        )
        assert json.loads(formatted.output_text)["city"] in ("Paris", "Rome")
        tool = {"type": "function", "name": "weather", "parameters": CITY, "strict": True}
        called = client.responses.create(
            input=QUESTION,
            tools=[tool],
            tool_choice="required",
            **asked | {"max_output_tokens": 200},
        )
        assert called.output[-1].type == "function_call"
        assert json.loads(called.output[-1].arguments)["city"] in ("Paris", "Rome")
        hosted = client.responses.create(input="hi", tools=[{"type": "web_search"}], **asked)
        assert hosted.status in ("completed", "incomplete")
        assert hosted.model == asked["model"]


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "weather"}}, "auto"]
)
@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_forced_and_free(fleet: Fleet, choice: Any, stream: bool) -> None:
    agent = fleet.agent("gru-1")
    asked: dict[str, Any] = {"model": DEPLOYMENT, "messages": QUESTION, "max_tokens": 200}
    asked |= {"temperature": 0}
    with client_of(agent) as client:
        given: Any = client.chat.completions.create(
            tools=[TOOL], tool_choice=choice, stream=stream, **asked
        )
        if not stream:
            calls = given.choices[0].message.tool_calls or []
            arguments = "".join(call.function.arguments for call in calls[:1])
        else:
            deltas = [chunk.choices[0].delta for chunk in given]
            calls = [call for delta in deltas for call in delta.tool_calls or []]
            arguments = "".join(call.function.arguments or "" for call in calls if call.index == 0)
    if choice != "auto":
        called = json.loads(arguments)
        assert called["city"] in ("Paris", "Rome")
    assert not stream or agent.last_request()["ttft_ms"] > 0


def test_json_by_schema_logprobs_and_several_choices(fleet: Fleet) -> None:
    agent = fleet.agent("gru-1")
    asked: dict[str, Any] = {"model": DEPLOYMENT, "messages": QUESTION, "max_tokens": 24}
    with client_of(agent) as client:
        schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
        whole = client.chat.completions.create(
            response_format=schema, **asked | {"max_tokens": 200, "temperature": 0}
        )
        assert json.loads(whole.choices[0].message.content or "")["city"] in ("Paris", "Rome")
        whole = client.chat.completions.create(n=2, logprobs=True, top_logprobs=2, **asked)
        assert [choice.index for choice in whole.choices] == [0, 1]
        logprobs = whole.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content
        assert len(logprobs.content[0].top_logprobs) == 2
        assert whole.usage is not None
        assert_metered(agent, whole.usage.prompt_tokens, whole.usage.completion_tokens)
        chunks = list(
            client.chat.completions.create(
                n=2, stream=True, stream_options={"include_usage": True}, **asked
            )
        )
        assert {choice.index for chunk in chunks for choice in chunk.choices} == {0, 1}
        usage = chunks[-1].usage
        assert usage is not None
        assert_metered(agent, usage.prompt_tokens, usage.completion_tokens)
        batch = client.completions.create(
            model=DEPLOYMENT, prompt=["One, two,", "Red, green,"], max_tokens=3, logprobs=1
        )
        assert len(batch.choices) == 2
        with pytest.raises(openai.BadRequestError, match="'n' is 99"):
            client.chat.completions.create(n=99, **asked)


def test_embeddings_of_a_model_that_generates_are_a_clear_400(fleet: Fleet) -> None:
    with (
        client_of(fleet.agent("gru-1")) as client,
        pytest.raises(openai.BadRequestError, match="gives no embeddings"),
    ):
        client.embeddings.create(model=DEPLOYMENT, input="hello")


def assert_metered(agent: AgentClient, prompt_tokens: int, completion_tokens: int) -> None:
    record = agent.last_request()
    assert record["prompt_tokens"] == prompt_tokens > 0
    assert record["completion_tokens"] == completion_tokens > 0
    assert record["cost_nano_usd"] > 0


def test_a_client_that_leaves_aborts_the_generation_in_vllm(fleet: Fleet) -> None:
    engine_socket = _engine_socket(fleet)

    def until_aborted_s(node: str) -> float:
        with client_of(fleet.agent(node)) as client:
            stream = client.chat.completions.create(
                model=DEPLOYMENT,
                messages=QUESTION,
                stream=True,
                max_tokens=1_500,
                extra_headers=PATIENT,
                extra_body={"ignore_eos": True},
            )
            next(iter(stream))
            assert _running(engine_socket) >= 1, "this one, and its agent's look at the engine"
            stream.close()
        return waited_s(lambda: _running(engine_socket) == 0, 30, "vLLM to abort the request")

    for node in ("iad-1", "gru-1"):
        within_at_best(1.0, partial(until_aborted_s, node))


def test_vllm_killed_mid_stream_is_an_error_event_and_it_comes_back(fleet: Fleet) -> None:
    agent = fleet.agent("gru-1")
    engine_pid = fleet.agent("iad-1").status()["engine"]["pid"]
    with client_of(agent) as client:
        stream = client.chat.completions.create(
            model=DEPLOYMENT,
            messages=QUESTION,
            stream=True,
            max_tokens=1_500,
            extra_headers=PATIENT,
            extra_body={"ignore_eos": True},
        )
        chunks = iter(stream)
        next(chunks)
        os.kill(engine_pid, signal.SIGKILL)
        with pytest.raises(openai.APIError):
            for _ in chunks:
                pass
    assert agent.chat(max_tokens=4).status == 200, "two other engines serve meanwhile"
    wait_until(lambda: fleet.agent("iad-1").status()["engine"]["restarts"] >= 1, 60, "a restart")
    iad = fleet.agent("iad-1")
    # Asked of its agent: requests meanwhile would take the cores that it starts on.
    wait_until(lambda: iad.status()["engine"]["state"] == "ready", 300, "vLLM to be ready again")
    wait_until(lambda: _served_by(agent) == "iad-1", 30, "vLLM to serve again")


def test_development_routes_of_vllm_cannot_be_reached(fleet: Fleet) -> None:
    for agent in fleet.agents():
        for path in ("/collective_rpc", "/pause", "/v1/load_lora_adapter", "/metrics", "/tokenize"):
            answer = agent.send({}, path=path)
            assert answer.status == 404
            assert answer.json()["error"]["code"] == "unknown_url"


def _engine_socket(fleet: Fleet) -> Path:
    """Of IAD, which serves whoever has the time."""
    return fleet.state_dir / "agents/iad-1/engine/run/e.sock"


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


def _served_by(agent: AgentClient) -> str:
    body = {"model": DEPLOYMENT, "messages": QUESTION, "max_tokens": 4}
    return agent.send(body, headers=PATIENT).headers.get("x-edgeforge-node", "")
