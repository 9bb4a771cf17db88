"""The openai Python client against a fleet."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.clients.conftest import CONTEXT_TOKENS, EMBEDDER, REGISTERED, WRITER
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient

TEXT = "t0 t1 t2 t3 t4 t5 t6 t7"
QUESTION: list[Any] = [{"role": "user", "content": "hello"}]
WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
#: More than any engine of this fleet takes.
TOO_LONG = "word " * 120_000
#: The words by which clients know this error.
OVERFLOW = f"maximum context length is {CONTEXT_TOKENS} tokens"


@pytest.fixture
def client(agent: AgentClient) -> Iterator[openai.OpenAI]:
    base_url = f"{agent.url}/v1"
    with openai.OpenAI(base_url=base_url, api_key=agent.api_key, max_retries=0) as made:
        yield made


def test_a_chat_is_answered_with_its_usage_under_the_name_that_was_asked_for(
    client: openai.OpenAI, engine: FakeEngineProcess
) -> None:
    given = client.chat.completions.create(model=WRITER, messages=QUESTION)
    assert given.choices[0].message.content == TEXT
    assert given.usage is not None
    assert (given.usage.prompt_tokens, given.usage.completion_tokens) == (7, 8)
    (asked,) = engine.requests()
    assert (asked["path"], asked["body"]["messages"]) == ("/v1/chat/completions", QUESTION)
    assert given.model == WRITER


def test_a_chat_streams_and_keeps_its_fingerprint_when_usage_was_not_asked_for(
    client: openai.OpenAI,
) -> None:
    chunks = list(client.chat.completions.create(model=WRITER, messages=QUESTION, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert {chunk.model for chunk in chunks} == {WRITER}
    assert any(chunk.system_fingerprint for chunk in chunks)


def test_a_chat_streams_its_usage_when_asked_for(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=WRITER, messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    usages = [chunk.usage for chunk in stream if chunk.usage is not None]
    assert [usage.completion_tokens for usage in usages] == [8]


@pytest.mark.parametrize("stream", [False, True])
def test_a_completion_is_answered(client: openai.OpenAI, stream: bool) -> None:
    given: Any = client.completions.create(model=WRITER, prompt="hello", stream=stream)
    chunks = list(given) if stream else [given]
    assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT
    assert {chunk.model for chunk in chunks} == {WRITER}


def test_a_response_is_answered(client: openai.OpenAI) -> None:
    given = client.responses.create(model=WRITER, input="hello")
    assert given.output_text == TEXT
    assert given.usage is not None
    assert (given.usage.input_tokens, given.usage.output_tokens) == (7, 8)
    assert given.model == WRITER


def test_a_response_streams(client: openai.OpenAI) -> None:
    with client.responses.stream(model=WRITER, input="hello") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert final.output_text == TEXT
    assert final.model == WRITER


def test_embeddings_are_answered(client: openai.OpenAI) -> None:
    given = client.embeddings.create(model=EMBEDDER, input=["one", "two"])
    assert [one.embedding for one in given.data] == [[0.5, 0.5]] * 2
    assert given.model == EMBEDDER


def test_a_model_has_two_names_and_answers_carry_the_one_that_was_asked_for(
    client: openai.OpenAI,
) -> None:
    assert {model.id for model in client.models.list()} >= {WRITER, EMBEDDER}
    for name in (WRITER, REGISTERED):
        assert client.models.retrieve(name).id == name
        given = client.chat.completions.create(model=name, messages=QUESTION)
        assert given.model == name
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


def test_the_context_window_that_is_told_is_the_one_that_is_served(client: openai.OpenAI) -> None:
    assert client.models.retrieve(WRITER).model_dump()["max_model_len"] == CONTEXT_TOKENS


def test_every_answer_names_its_request_streams_and_errors_included(
    client: openai.OpenAI, agent: AgentClient
) -> None:
    whole = client.chat.completions.create(model=WRITER, messages=QUESTION)
    assert whole._request_id is not None
    assert len(whole._request_id) == 32
    with client.chat.completions.with_streaming_response.create(
        model=WRITER, messages=QUESTION
    ) as streamed:
        assert streamed.request_id is not None
        assert streamed.headers["x-edgeforge-trace-id"] == streamed.request_id
    assert client.models.retrieve(WRITER)._request_id is not None
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="nothing", messages=QUESTION)
    assert refused.value.request_id is not None


def test_errors_have_their_own_classes_and_name_the_parameter(agent: AgentClient) -> None:
    base_url = f"{agent.url}/v1"
    with openai.OpenAI(base_url=base_url, api_key=agent.api_key, max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="nothing") as unknown:
            client.chat.completions.create(model="nothing", messages=QUESTION)
        assert unknown.value.code == "model_not_found"
        with pytest.raises(openai.BadRequestError) as wrong:
            client.chat.completions.create(model=WRITER, messages=QUESTION, max_tokens="many")
        assert "max_tokens" in str(wrong.value.param)
        with pytest.raises(openai.BadRequestError) as missing:
            client.post("/chat/completions", body={"messages": QUESTION}, cast_to=object)
        assert missing.value.param == "model"
    with (
        openai.OpenAI(base_url=base_url, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


def test_a_prompt_over_the_context_window_has_the_code_that_clients_look_for(
    client: openai.OpenAI,
) -> None:
    with pytest.raises(openai.BadRequestError, match=OVERFLOW) as refused:
        client.chat.completions.create(
            model=WRITER, messages=[{"role": "user", "content": TOO_LONG}]
        )
    assert refused.value.code == "context_length_exceeded"


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_answered_in_chat(
    client: openai.OpenAI, engine: FakeEngineProcess, stream: bool
) -> None:
    engine.control(tool_call={"name": "weather", "arguments": {"city": "Recife"}})
    tool: Any = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}
    asked: dict[str, Any] = {"model": WRITER, "tools": [tool]}
    if stream:
        with client.chat.completions.stream(messages=QUESTION, **asked) as events:
            choice = events.get_final_completion().choices[0]
    else:
        choice = client.chat.completions.create(messages=QUESTION, **asked).choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls or []
    assert json.loads(call.function.arguments) == {"city": "Recife"}
    called = {"id": call.id, "type": "function"}
    called |= {"function": {"name": "weather", "arguments": call.function.arguments}}
    turns = [
        *QUESTION,
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": call.id, "content": "rain"},
    ]
    final = client.chat.completions.create(messages=turns, **asked)
    assert final.choices[0].message.content == TEXT
    assert engine.requests()[-1]["body"]["messages"][-1]["content"] == "rain"


def test_a_tool_is_called_and_its_result_answered_in_responses(
    client: openai.OpenAI, engine: FakeEngineProcess
) -> None:
    engine.control(tool_call={"name": "weather", "arguments": {"city": "Recife"}})
    asked: dict[str, Any] = {"model": WRITER}
    asked["tools"] = [{"type": "function", "name": "weather", "parameters": WEATHER}]
    with client.responses.stream(input="hello", **asked) as stream:
        for _ in stream:
            pass
        (call,) = stream.get_final_response().output
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"city": "Recife"}
    turns: list[Any] = [
        *QUESTION,
        call.model_dump(include={"type", "call_id", "name", "arguments"}),
    ]
    turns.append({"type": "function_call_output", "call_id": call.call_id, "output": "rain"})
    assert client.responses.create(input=turns, **asked).output_text == TEXT


def test_the_asynchronous_client_streams(agent: AgentClient) -> None:
    async def streamed() -> str:
        base_url = f"{agent.url}/v1"
        async with openai.AsyncOpenAI(base_url=base_url, api_key=agent.api_key) as client:
            stream = await client.chat.completions.create(
                model=WRITER, messages=QUESTION, stream=True
            )
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(streamed()) == TEXT


def test_a_base_url_with_a_trailing_slash_and_needless_fields_are_accepted(
    agent: AgentClient,
) -> None:
    base_url = f"{agent.url}/v1/"
    with openai.OpenAI(base_url=base_url, api_key=agent.api_key, max_retries=0) as client:
        given = client.chat.completions.create(
            model=WRITER,
            messages=QUESTION,
            user="someone",
            store=False,
            metadata={"purpose": "test"},
            extra_body={"priority": 0},
        )
    assert given.choices[0].message.content == TEXT


def test_a_client_with_a_short_read_limit_waits_for_a_late_first_token(
    agent: AgentClient, engine: FakeEngineProcess
) -> None:
    engine.control(first_token_delay_ms=9_000)
    limit = openai.Timeout(60, read=7.5)
    with openai.OpenAI(
        base_url=f"{agent.url}/v1", api_key=agent.api_key, max_retries=0, timeout=limit
    ) as client:
        stream = client.chat.completions.create(model=WRITER, messages=QUESTION, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == TEXT
