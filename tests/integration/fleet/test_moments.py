"""A target that is lost, or only silent, at each moment of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from agent.core.live import EJECT_AFTER_LATE
from tests.support.twins import Twins, generations, twin_fleet

IDLE_MS = 3_000


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """No second copies: what is left is replacement."""
    folder = tmp_path_factory.mktemp("m")
    with twin_fleet(folder, idle_ms=IDLE_MS, hedge_ratio=0.0) as running:
        yield running


@pytest.fixture(autouse=True)
def healthy(twins: Twins) -> None:
    twins.heal()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"error_status": 500}, id="500"),
        pytest.param({"error_status": 503}, id="503"),
        pytest.param({"cut_after_tokens": 0}, id="cut before the head"),
        pytest.param({"hang": True}, id="silent before the head"),
        pytest.param({"stall_after_tokens": 0}, id="silent behind the head"),
        pytest.param({"engine_error_after_tokens": 0}, id="an error of its own"),
        pytest.param({"malformed_after_tokens": 0}, id="malformed"),
    ],
)
def test_lost_before_the_first_token_another_serves_and_the_prompt_is_billed_once(
    twins: Twins, fault: dict[str, int]
) -> None:
    twins.iad.control(**fault)
    answer = twins.agent.chat(stream=True)
    assert answer.status == 200
    assert answer.events()[-1] == "[DONE]"
    assert answer.headers["x-edgeforge-node"] == "gru-1"
    assert [node for node, _ in twins.outcomes()] == ["iad-1", "gru-1"]
    record = twins.agent.last_request()
    assert (record["prompt_tokens"], record["completion_tokens"]) == (7, 8)
    assert len(generations(twins.gru)) == 1


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"cut_after_tokens": 1}, id="cut behind the first token"),
        pytest.param({"engine_error_after_tokens": 3}, id="an error of its own"),
        pytest.param({"malformed_after_tokens": 3}, id="malformed"),
        pytest.param({"cut_after_tokens": 8}, id="cut behind the last token"),
    ],
)
def test_lost_after_the_first_token_is_an_error_event_billed_once_and_nobody_else_is_asked(
    twins: Twins, fault: dict[str, int]
) -> None:
    twins.iad.control(token_delay_ms=30, **fault)
    answer = twins.agent.chat(stream=True)
    assert answer.status == 200
    assert "error" in json.loads(answer.events()[-1])
    assert "[DONE]" not in answer.events()
    assert generations(twins.gru) == []
    record = twins.agent.last_request()
    assert record["prompt_tokens"] == 7
    assert record["completion_tokens"] == next(iter(fault.values()))
    assert record["cost_nano_usd"] > 0


def test_late_with_nobody_else_who_can_answer_is_waited_for_however_often(twins: Twins) -> None:
    """Cut for being late while another could be asked, it is asked again when that one fails."""
    twins.gru.control(error_status=500)
    twins.iad.control(first_token_delay_ms=IDLE_MS - 500)
    for _ in range(EJECT_AFTER_LATE + 1):
        answer = twins.agent.chat(stream=True)
        assert answer.status == 200, twins.outcomes()
        assert answer.headers["x-edgeforge-node"] == "iad-1"
        assert answer.events()[-1] == "[DONE]"
