"""A stream that breaks after its first token goes on elsewhere, where its deployment says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.fleet import Answer
from tests.support.twins import MODEL, Twins, generations, twin_fleet
from tests.support.waiting import wait_until

WHOLE = " ".join(f"t{index}" for index in range(8))


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with twin_fleet(tmp_path_factory.mktemp("c"), hedge_ratio=0.0) as running:
        running.fleet.edgeforge("deployment", "set", MODEL, "--continue-streams")
        yield running


@pytest.fixture(autouse=True)
def healthy(twins: Twins) -> None:
    twins.iad.stop()
    twins.iad.start()
    twins.heal()


def messages_of(answer: Answer) -> list[dict[str, Any]]:
    return [json.loads(event) for event in answer.events() if event != "[DONE]"]


def text_of(answer: Answer) -> str:
    return "".join(
        choice.get("delta", {}).get("content") or choice.get("text") or ""
        for message in messages_of(answer)
        for choice in message["choices"]
    )


def test_an_engine_killed_mid_stream_is_continued_by_another_and_the_client_sees_one_stream(
    twins: Twins,
) -> None:
    twins.iad.control(die_after_tokens=3, token_delay_ms=30)
    answer = twins.agent.chat(stream=True, stream_options={"include_usage": True}, max_tokens=8)
    assert answer.status == 200
    assert answer.events()[-1] == "[DONE]"
    assert text_of(answer) == WHOLE
    sent = messages_of(answer)
    assert len({(one["id"], one["created"], one["model"]) for one in sent}) == 1
    roles = [one for one in sent if one["choices"] and "role" in one["choices"][0]["delta"]]
    assert len(roles) == 1
    assert [one["choices"][0]["finish_reason"] for one in sent if one["choices"]][-1] == "length"
    usage = sent[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (7, 8)
    (rest,) = generations(twins.gru)
    assert rest["body"]["messages"][-1] == {"role": "assistant", "content": "t0 t1 t2"}
    assert rest["body"]["max_tokens"] == 5
    record = twins.agent.last_request()
    assert (record["prompt_tokens"], record["completion_tokens"]) == (7, 8), "billed once"
    assert record["status"] == 200
    assert [node for node, _ in twins.outcomes()] == ["iad-1", "gru-1"]
    assert [outcome for _, outcome in twins.outcomes()] == ["broken", "continued"]
    assert twins.agent.status()["streams_continued"] >= 1


@pytest.mark.parametrize(
    "fault",
    [
        {"cut_after_tokens": 4},
        {"engine_error_after_tokens": 4},
        {"malformed_after_tokens": 4},
    ],
    ids=lambda fault: next(iter(fault)),
)
def test_a_stream_that_breaks_in_any_way_goes_on(twins: Twins, fault: dict[str, int]) -> None:
    twins.iad.control(token_delay_ms=30, **fault)
    answer = twins.agent.chat(stream=True)
    assert answer.events()[-1] == "[DONE]"
    assert text_of(answer) == WHOLE
    assert b"usage" not in answer.body, "it was not asked for"
    assert twins.agent.last_request()["completion_tokens"] == 8


def test_an_engine_that_dies_behind_its_last_word_costs_nothing_and_nobody_is_asked_again(
    twins: Twins,
) -> None:
    twins.iad.control(cut_after_tokens=8, token_delay_ms=30)
    answer = twins.agent.chat(stream=True, stream_options={"include_usage": True})
    assert answer.events()[-1] == "[DONE]"
    assert text_of(answer) == WHOLE
    assert messages_of(answer)[-1]["usage"]["completion_tokens"] == 8
    assert generations(twins.gru) == []


def test_a_text_completion_goes_on_too(twins: Twins) -> None:
    twins.iad.control(cut_after_tokens=5, token_delay_ms=30)
    body = {"model": MODEL, "prompt": "Say:", "stream": True}
    answer = twins.agent.send(body, path="/v1/completions")
    assert answer.events()[-1] == "[DONE]"
    assert text_of(answer) == WHOLE
    (rest,) = generations(twins.gru)
    assert rest["body"]["prompt"] == "Say:t0 t1 t2 t3 t4"


@pytest.mark.parametrize(
    "fields",
    [{"n": 2}, {"logprobs": True}, {"response_format": {"type": "json_object"}}],
    ids=lambda fields: next(iter(fields)),
)
def test_what_cannot_be_continued_ends_in_an_error_event(
    twins: Twins, fields: dict[str, Any]
) -> None:
    twins.iad.control(cut_after_tokens=3, token_delay_ms=30)
    answer = twins.agent.chat(stream=True, **fields)
    assert "error" in json.loads(answer.events()[-1])
    assert generations(twins.gru) == []


def test_a_stream_that_nobody_can_continue_ends_in_an_error_event_and_is_billed_once(
    twins: Twins,
) -> None:
    twins.iad.control(cut_after_tokens=3, token_delay_ms=30)
    twins.gru.control(error_status=500)
    answer = twins.agent.chat(stream=True)
    assert "error" in json.loads(answer.events()[-1])
    record = twins.agent.last_request()
    assert (record["prompt_tokens"], record["completion_tokens"]) == (7, 3)
    assert twins.outcomes()[-1][1] == "failed"
    assert "could not go on" in record["attempts"][-1]["detail"]


def test_a_client_gone_during_the_second_half_aborts_it(twins: Twins) -> None:
    twins.iad.control(tokens=5_000, cut_after_tokens=3, token_delay_ms=20)
    twins.gru.control(tokens=5_000, token_delay_ms=20)
    agent = twins.agent
    connection = agent.connect()
    body = json.dumps(
        {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "stream": True}
    )
    headers = {"authorization": f"Bearer {agent.api_key}"}
    connection.request("POST", "/v1/chat/completions", body, headers)
    response = connection.getresponse()
    wait_until(lambda: b't4"' in response.readline(), 30, "the second half")
    response.close()
    connection.close()
    wait_until(lambda: twins.gru.running() == 0, 30, "the second half to be aborted")


def test_without_the_switch_a_broken_stream_is_an_error_event_billed_once(twins: Twins) -> None:
    twins.fleet.edgeforge("deployment", "set", MODEL, "--no-continue-streams")
    try:
        wait_until(lambda: _breaks(twins), 20, "the switch to reach the agent")
        record = twins.agent.last_request()
        assert (record["prompt_tokens"], record["completion_tokens"]) == (7, 3)
        assert record["cost_nano_usd"] > 0
        assert len(twins.outcomes()) == 1
    finally:
        twins.fleet.edgeforge("deployment", "set", MODEL, "--continue-streams")


def _breaks(twins: Twins) -> bool:
    twins.iad.control(cut_after_tokens=3, token_delay_ms=30)
    answer = twins.agent.chat(stream=True)
    return answer.headers["x-edgeforge-node"] == "iad-1" and answer.events()[-1] != "[DONE]"
