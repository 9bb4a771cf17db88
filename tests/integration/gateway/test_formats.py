"""Every request format through real agents: locally and over a hop, as a stream and whole."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Answer, Fleet
from tests.support.waiting import wait_until

CHAT, COMPLETE = "/v1/chat/completions", "/v1/completions"
RESPONSES, MESSAGES, EMBEDDINGS = "/v1/responses", "/v1/messages", "/v1/embeddings"
COUNT_TOKENS = "/v1/messages/count_tokens"
PROMPTS: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "hello"}]},
    COMPLETE: {"prompt": "hello"},
    RESPONSES: {"input": "hello"},
    MESSAGES: {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 100},
}
LAST_EVENT = {
    CHAT: b"data: [DONE]\n\n",
    COMPLETE: b"data: [DONE]\n\n",
    RESPONSES: b"event: response.completed\n",
    MESSAGES: b"event: message_stop\n",
}
EVERY_FORMAT = pytest.mark.parametrize("path", list(PROMPTS))
EVERY_WAY = pytest.mark.parametrize("node", ["iad-1", "gru-1"])


@pytest.fixture(autouse=True)
def healed(fleet: Fleet, engine: FakeEngineProcess, obedient: None) -> None:
    """An engine that a test broke is left alone for a moment, by each agent."""
    for agent in (fleet.agent("iad-1"), fleet.agent("gru-1")):
        wait_until(lambda agent=agent: agent.chat().status == 200, 20, "the engine to be used")
    engine.forget()


def ask(agent: AgentClient, path: str, **fields: Any) -> Answer:
    return agent.send({"model": agent.model} | PROMPTS[path] | fields, path=path)


@EVERY_WAY
@EVERY_FORMAT
@pytest.mark.parametrize("stream", [False, True])
def test_every_format_is_served_metered_and_billed_here_and_over_a_hop(
    fleet: Fleet, engine: FakeEngineProcess, path: str, node: str, stream: bool
) -> None:
    agent = fleet.agent(node)
    engine.control(tokens=5, prompt_tokens=11, first_token_delay_ms=30)
    answer = ask(agent, path, stream=stream)
    assert answer.status == 200, answer.body
    assert b"t4" in answer.body
    record = agent.last_request()
    assert record["path"] == path
    assert (record["prompt_tokens"], record["completion_tokens"]) == (11, 5)
    assert record["cost_nano_usd"] > 0
    assert record["node_id"] == "iad-1"
    (asked,) = [one for one in engine.requests() if one["path"] == path]
    assert asked["body"]["cache_salt"]
    assert ("stream_options" in asked["body"]) is (stream and path in (CHAT, COMPLETE))
    if stream:
        assert LAST_EVENT[path] in answer.body
        assert record["ttft_ms"] >= 25
        assert (b'"cost_usd":' in answer.body) is (path in (RESPONSES, MESSAGES))
    else:
        assert float(answer.headers["x-edgeforge-cost-usd"]) > 0


@EVERY_FORMAT
def test_the_first_token_is_the_first_delta_and_not_the_opening_of_a_stream(
    fleet: Fleet, engine: FakeEngineProcess, path: str
) -> None:
    """So an engine that fails behind its opening events can still be replaced."""
    agent = fleet.agent("iad-1")
    engine.control(malformed_after_tokens=0)
    answer = ask(agent, path, stream=True)
    assert answer.status == 503, answer.body
    assert_error_body(path, answer.json())
    assert agent.last_request()["ttft_ms"] is None


@EVERY_WAY
@EVERY_FORMAT
@pytest.mark.parametrize("fault", ["cut_after_tokens", "engine_error_after_tokens"])
def test_a_stream_that_breaks_ends_with_an_error_in_the_formats_own_words(
    fleet: Fleet, engine: FakeEngineProcess, path: str, node: str, fault: str
) -> None:
    agent = fleet.agent(node)
    engine.control(**{"tokens": 6, "token_delay_ms": 5, fault: 3})
    answer = ask(agent, path, stream=True)
    assert answer.status == 200
    assert LAST_EVENT[path] not in answer.body
    name, _, data = answer.body.rstrip(b"\n").rpartition(b"\n\n")[2].partition(b"\ndata: ")
    assert name == b"event: error"
    told = json.loads(data)
    if path == MESSAGES:
        assert told["type"] == "error"
        assert told["error"]["type"] == "api_error"
    elif path == RESPONSES:
        assert told["type"] == "error"
        assert told["sequence_number"] == answer.body.count(b"event: ") - 1
        assert told["message"]
    else:
        assert told["error"]["message"]
    record = agent.last_request()
    assert record["error"]
    wait_until(lambda: ask(agent, path).status == 200, 20, "the next request to be served")


@EVERY_FORMAT
@pytest.mark.parametrize(
    ("status", "fields", "headers"),
    [
        (400, {"priority": 1}, {}),
        (404, {"model": "nosuch"}, {}),
        (401, {}, {"authorization": "Bearer wrong"}),
        (400, {}, {"x-edgeforge-ttft-budget-ms": "0"}),
    ],
)
def test_a_refusal_has_the_formats_own_error_body_and_the_engine_is_untouched(
    fleet: Fleet,
    engine: FakeEngineProcess,
    path: str,
    status: int,
    fields: dict[str, Any],
    headers: dict[str, str],
) -> None:
    agent = fleet.agent("iad-1")
    body = {"model": agent.model} | PROMPTS[path] | fields
    answer = agent.send(body, path=path, headers=headers)
    assert answer.status == status, answer.body
    assert_error_body(path, answer.json())
    assert path not in [one["path"] for one in engine.requests()]


def assert_error_body(path: str, said: Any) -> None:
    assert said["error"]["message"]
    if path.startswith(MESSAGES):
        assert said["type"] == "error"
        assert set(said["error"]) == {"type", "message"}
    else:
        assert set(said) == {"error"}


def test_an_engines_own_refusal_of_messages_is_in_anthropics_words(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    for node in ("iad-1", "gru-1"):
        answer = ask(fleet.agent(node), MESSAGES, messages="no list")
        assert answer.status == 400
        assert_error_body(MESSAGES, answer.json())
        assert "valid list" in answer.json()["error"]["message"]


def test_embeddings_of_a_model_that_generates_are_a_clear_400(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    for node in ("iad-1", "gru-1"):
        agent = fleet.agent(node)
        answer = agent.send({"model": agent.model, "input": "hello"}, path=EMBEDDINGS)
        assert answer.status == 400
        assert "gives no embeddings" in answer.json()["error"]["message"]
    assert EMBEDDINGS not in [one["path"] for one in engine.requests()]


@EVERY_WAY
def test_the_unmodified_anthropic_client_talks_streams_and_is_refused_in_its_own_classes(
    fleet: Fleet, engine: FakeEngineProcess, node: str
) -> None:
    agent = fleet.agent(node)
    engine.control(tokens=4, prompt_tokens=9)
    prompt: Any = {"max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
    with anthropic.Anthropic(base_url=agent.url, api_key=agent.api_key, max_retries=0) as client:
        message = client.messages.create(model=agent.model, **prompt)
        assert message.content[0].type == "text"
        assert message.content[0].text == "t0 t1 t2 t3"
        assert (message.usage.input_tokens, message.usage.output_tokens) == (9, 4)
        with client.messages.stream(model=agent.model, **prompt) as stream:
            assert "".join(stream.text_stream) == "t0 t1 t2 t3"
            assert stream.get_final_message().usage.output_tokens == 4
        with pytest.raises(anthropic.NotFoundError):
            client.messages.create(model="nosuch", **prompt)
        engine.control(tokens=6, cut_after_tokens=3)
        with (
            pytest.raises(anthropic.APIStatusError, match="failed during the stream"),
            client.messages.stream(model=agent.model, **prompt) as stream,
        ):
            list(stream)
    with (
        anthropic.Anthropic(base_url=agent.url, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError),
    ):
        stranger.messages.create(model=agent.model, **prompt)


@EVERY_WAY
def test_the_anthropic_client_counts_tokens_and_nothing_is_billed(
    fleet: Fleet, engine: FakeEngineProcess, node: str
) -> None:
    agent = fleet.agent(node)
    engine.control(prompt_tokens=9)
    prompt: Any = {"messages": [{"role": "user", "content": "hello"}]}
    with anthropic.Anthropic(base_url=agent.url, api_key=agent.api_key, max_retries=0) as client:
        counted = client.messages.count_tokens(model=agent.model, **prompt)
        assert counted.input_tokens == 9
        record = agent.last_request()
        assert (record["path"], record["status"]) == (COUNT_TOKENS, 200)
        assert (record["prompt_tokens"], record["cost_nano_usd"]) == (0, 0)
        long = {"messages": [{"role": "user", "content": "hello " * 100_000}]}
        counted = client.messages.count_tokens(model=agent.model, **long)
        assert counted.input_tokens == 9, "how long is too long is the engine's to say"
        engine.forget()
        with pytest.raises(anthropic.BadRequestError, match="mcp_servers"):
            client.messages.count_tokens(
                model=agent.model, extra_body={"mcp_servers": [{"url": "http://h/"}]}, **prompt
            )
        assert COUNT_TOKENS not in [one["path"] for one in engine.requests()]
        engine.control(error_status=404)
        with pytest.raises(anthropic.NotFoundError):
            client.messages.count_tokens(model=agent.model, **prompt)


def test_a_stream_of_a_count_is_a_whole_answer(fleet: Fleet) -> None:
    agent = fleet.agent("iad-1")
    answer = agent.send({"model": agent.model, "messages": [], "stream": True}, path=COUNT_TOKENS)
    assert answer.json()["input_tokens"] > 0


def test_the_anthropic_client_lists_and_finds_models_with_its_own_header(fleet: Fleet) -> None:
    agent = fleet.agent("gru-1")
    with anthropic.Anthropic(base_url=agent.url, api_key=agent.api_key, max_retries=0) as client:
        (found,) = list(client.models.list())
        assert (found.id, found.type, found.lifecycle) == (agent.model, "model", "active")
        assert found.created_at.year == 1970
        assert client.models.retrieve(agent.model) == found
        assert (found.max_input_tokens or 0) > 0
        with pytest.raises(anthropic.NotFoundError) as refused:
            client.models.retrieve("nosuch")
        assert refused.value.body["type"] == "error"  # type: ignore[index, call-overload]
    with (
        anthropic.Anthropic(base_url=agent.url, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError),
    ):
        stranger.models.list()


def test_an_openai_client_lists_models_as_before(fleet: Fleet) -> None:
    agent = fleet.agent("gru-1")
    base_url = f"{agent.url}/v1"
    with openai.OpenAI(base_url=base_url, api_key=agent.api_key, max_retries=0) as client:
        assert [one.id for one in client.models.list()] == [agent.model]
        assert client.models.retrieve(agent.model).object == "model"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize("path", ["/v1/assistants", "/v1/files/1", "/v1/messages/batches", "/v1/"])
def test_an_unknown_path_is_404_in_the_askers_words_and_no_engine_is_asked(
    fleet: Fleet, engine: FakeEngineProcess, method: str, path: str
) -> None:
    agent = fleet.agent("iad-1")
    for headers in ({}, {"anthropic-version": "2023-06-01"}):
        connection = agent.connect()
        connection.request(method, path, b"{}", {"x-api-key": agent.api_key} | headers)
        response = connection.getresponse()
        told = json.loads(response.read())
        connection.close()
        assert response.status == 404
        assert path in told["error"]["message"]
        if headers or path.startswith(MESSAGES):
            assert (told["type"], told["error"]["type"]) == ("error", "not_found_error")
        else:
            assert told["error"]["code"] == "unknown_url"
    assert path not in [one["path"] for one in engine.requests()]


@EVERY_WAY
def test_the_unmodified_openai_client_gets_responses_and_its_own_errors(
    fleet: Fleet, engine: FakeEngineProcess, node: str
) -> None:
    agent = fleet.agent(node)
    engine.control(tokens=4, prompt_tokens=9)
    base_url = f"{agent.url}/v1"
    with openai.OpenAI(base_url=base_url, api_key=agent.api_key, max_retries=0) as client:
        response = client.responses.create(model=agent.model, input="hello")
        assert response.output_text == "t0 t1 t2 t3"
        assert response.usage is not None
        assert (response.usage.input_tokens, response.usage.output_tokens) == (9, 4)
        events = list(client.responses.create(model=agent.model, input="hello", stream=True))
        assert events[-1].type == "response.completed"
        with pytest.raises(openai.BadRequestError, match="previous_response_id"):
            client.responses.create(model=agent.model, input="hello", previous_response_id="resp_1")
        engine.control(tokens=6, cut_after_tokens=3)
        with pytest.raises(openai.APIError, match="failed during the stream"):
            list(client.responses.create(model=agent.model, input="hello", stream=True))


@EVERY_FORMAT
def test_a_client_gone_mid_stream_aborts_the_engines_request(
    fleet: Fleet, engine: FakeEngineProcess, path: str
) -> None:
    engine.control(tokens=500, token_delay_ms=50)
    for node in ("iad-1", "gru-1"):
        agent = fleet.agent(node)
        engine.forget()
        connection = agent.connect()
        body = {"model": agent.model, "stream": True} | PROMPTS[path]
        given = {"authorization": f"Bearer {agent.api_key}"}
        connection.request("POST", path, json.dumps(body), given)
        assert connection.getresponse().read(20)
        connection.close()
        wait_until(lambda: engine.running() == 0, 30, "the engine's request to be aborted")
        assert [one["state"] for one in engine.requests() if one["path"] == path] == ["aborted"]
