"""The anthropic Python client against a fleet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from tests.clients.conftest import CONTEXT_TOKENS, WRITER
from tests.clients.test_openai_python import OVERFLOW, QUESTION, TEXT, TOO_LONG, WEATHER
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient

ASKED: dict[str, Any] = {"model": WRITER, "max_tokens": 100, "messages": QUESTION}


@pytest.fixture
def client(agent: AgentClient) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=agent.url, api_key=agent.api_key, max_retries=0) as made:
        yield made


def text_of(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def test_a_message_is_answered_with_its_usage_under_the_name_that_was_asked_for(
    client: anthropic.Anthropic, engine: FakeEngineProcess
) -> None:
    message = client.messages.create(**ASKED)
    assert text_of(message) == TEXT
    assert (message.usage.input_tokens, message.usage.output_tokens) == (7, 8)
    assert message.stop_reason == "end_turn"
    assert engine.requests()[-1]["path"] == "/v1/messages"
    assert message.model == WRITER


def test_a_message_streams(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**ASKED) as stream:
        assert "".join(stream.text_stream) == TEXT
        final = stream.get_final_message()
    assert (final.usage.input_tokens, final.usage.output_tokens) == (7, 8)
    assert final.model == WRITER


def test_tokens_are_counted(client: anthropic.Anthropic) -> None:
    told = client.messages.count_tokens(model=WRITER, messages=QUESTION)
    assert told.input_tokens == 7


def test_models_are_listed_and_found_with_the_window_that_is_served(
    client: anthropic.Anthropic,
) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert WRITER in listed
    found = client.models.retrieve(WRITER)
    assert (found.id, found.type) == (WRITER, "model")
    assert found.model_dump()["max_input_tokens"] == CONTEXT_TOKENS


def test_every_answer_names_its_request_errors_included(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(**ASKED)
    assert whole._request_id is not None
    assert len(whole._request_id) == 32
    with client.messages.stream(**ASKED) as stream:
        stream.until_done()
        assert stream.request_id is not None
    assert client.messages.count_tokens(model=WRITER, messages=QUESTION)._request_id is not None
    with pytest.raises(anthropic.NotFoundError) as refused:
        client.messages.create(**ASKED | {"model": "nothing"})
    assert refused.value.request_id is not None


def test_errors_have_their_own_classes(agent: AgentClient, client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as unknown:
        client.messages.create(**ASKED | {"model": "nothing"})
    assert unknown.value.type == "not_found_error"
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(**ASKED | {"messages": "hello"})
    with (
        anthropic.Anthropic(base_url=agent.url, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError),
    ):
        stranger.messages.create(**ASKED)


def test_a_prompt_over_the_context_window_is_a_bad_request_that_says_so(
    client: anthropic.Anthropic,
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=OVERFLOW):
        client.messages.create(**ASKED | {"messages": [{"role": "user", "content": TOO_LONG}]})


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_answered(
    client: anthropic.Anthropic, engine: FakeEngineProcess, stream: bool
) -> None:
    engine.control(tool_call={"name": "weather", "arguments": {"city": "Recife"}})
    asked = ASKED | {"tools": [{"name": "weather", "input_schema": WEATHER}]}
    if stream:
        with client.messages.stream(**asked) as events:
            message = events.get_final_message()
    else:
        message = client.messages.create(**asked)
    assert message.stop_reason == "tool_use"
    (call,) = [block for block in message.content if block.type == "tool_use"]
    assert (call.name, call.input) == ("weather", {"city": "Recife"})
    used = {"type": "tool_use", "id": call.id, "name": "weather", "input": call.input}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
    turns = [
        *QUESTION,
        {"role": "assistant", "content": [used]},
        {"role": "user", "content": [result]},
    ]
    assert text_of(client.messages.create(**asked | {"messages": turns})) == TEXT


def test_a_bearer_token_is_taken_as_a_key(
    agent: AgentClient,
) -> None:
    with anthropic.Anthropic(base_url=agent.url, auth_token=agent.api_key) as client:
        assert text_of(client.messages.create(**ASKED)) == TEXT


def test_a_client_with_a_short_read_limit_waits_for_a_late_first_token(
    agent: AgentClient, engine: FakeEngineProcess
) -> None:
    engine.control(first_token_delay_ms=9_000)
    limit = anthropic.Timeout(60, read=7.5)
    with (
        anthropic.Anthropic(
            base_url=agent.url, api_key=agent.api_key, max_retries=0, timeout=limit
        ) as client,
        client.messages.stream(**ASKED) as stream,
    ):
        assert "".join(stream.text_stream) == TEXT
