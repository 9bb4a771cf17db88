"""A late first token: a second copy; the first of both wins, the loser is aborted, not billed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.fleet import Answer
from tests.support.twins import Twins, generations, twin_fleet
from tests.support.waiting import wait_until

LATE_MS = 5_000
#: So that a second target still is in time when the first is late.
GENEROUS = {"x-edgeforge-ttft-budget-ms": "10000"}


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """Every late stream may be sent twice."""
    with twin_fleet(tmp_path_factory.mktemp("h"), hedge_ratio=1.0) as running:
        yield running


@pytest.fixture(autouse=True)
def healthy(twins: Twins) -> None:
    twins.heal()


def chat(twins: Twins, headers: dict[str, str] = GENEROUS, **fields: Any) -> Answer:
    agent = twins.agent
    messages = [{"role": "user", "content": "hello"}]
    body = {"model": agent.model, "messages": messages, "stream": True} | fields
    return agent.send(body, headers=headers)


def wait_aborted(twins: Twins) -> None:
    wait_until(lambda: twins.iad.running() == 0, 30, "the loser to be aborted")


def test_a_late_first_token_is_served_by_a_second_copy_and_the_loser_is_aborted_and_not_billed(
    twins: Twins,
) -> None:
    twins.iad.control(first_token_delay_ms=LATE_MS)
    answer = chat(twins, stream_options={"include_usage": True})
    assert answer.status == 200
    assert answer.events()[-1] == "[DONE]"
    assert answer.body.count(b't0"') == 1, "one answer, not two"
    assert answer.headers["x-edgeforge-node"] == "gru-1"
    assert answer.headers["x-edgeforge-tier"] == "edge"
    wait_aborted(twins)
    (lost,) = generations(twins.iad)
    assert lost["state"] == "aborted"
    assert lost["tokens_sent"] == 0
    record = twins.agent.last_request()
    assert [node for node, _ in twins.outcomes()] == ["iad-1", "gru-1"]
    assert twins.outcomes()[0][1] == "overtaken"
    assert (record["prompt_tokens"], record["completion_tokens"]) == (7, 8), "billed once"
    assert record["billing_tier"] == "central", "the second choice was ours, not the customer's"
    assert record["serving_tier"] == "edge"
    assert twins.agent.status()["first_byte"]["hedges_won"] >= 1


def test_a_client_gone_while_both_copies_run_aborts_both(twins: Twins) -> None:
    twins.iad.control(first_token_delay_ms=60_000)
    twins.gru.control(first_token_delay_ms=60_000)
    connection = twins.agent.connect()
    headers = {"authorization": f"Bearer {twins.agent.api_key}"} | GENEROUS
    body = b'{"model":"twin","messages":[],"stream":true}'
    connection.request("POST", "/v1/chat/completions", body, headers)
    wait_until(lambda: twins.iad.running() and twins.gru.running(), 30, "both copies to run")
    connection.close()
    for engine in (twins.iad, twins.gru):
        wait_until(lambda engine=engine: engine.running() == 0, 30, "the copy to be aborted")
    assert twins.agent.last_request()["client_gone"]
