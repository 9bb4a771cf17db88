"""What clients of real agents were answered is what the coordinator has counted, each once."""

from __future__ import annotations

import json

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Answer, Fleet
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """Its sums are of these tests' requests alone."""
    return own_fleet


def exported(fleet: Fleet) -> dict[str, dict[str, object]]:
    """Return the lines of the export by trace, each of which there is one."""
    lines = [json.loads(line) for line in fleet.edgeforge("usage", "export", "--json").splitlines()]
    found = {str(line["trace_id"]): line for line in lines}
    assert len(found) == len(lines)
    return found


def tokens_of(answer: Answer) -> tuple[int, int]:
    """Return what the client was told of its tokens."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        usage = next(
            event["usage"]
            for event in map(json.loads, answer.events()[:-1])
            if event.get("usage") and not event["choices"]
        )
    else:
        usage = answer.json()["usage"]
    return usage["prompt_tokens"], usage["completion_tokens"]


def test_each_answer_is_counted_once_with_the_tokens_its_client_saw(fleet: Fleet):
    with_usage = {"stream": True, "stream_options": {"include_usage": True}}
    answers = [
        fleet.agent(node).chat(**fields)
        for node in ("gru-1", "iad-1")
        for fields in ({}, with_usage, {"max_tokens": 3})
    ]
    assert {answer.status for answer in answers} == {200}
    traces = {answer.headers["x-edgeforge-trace-id"]: answer for answer in answers}
    lines = wait_until(
        lambda: found if traces.keys() <= (found := exported(fleet)).keys() else None,
        60,
        "the records to be counted",
    )
    for trace_id, answer in traces.items():
        line = lines[trace_id]
        assert (line["status"], line["cause"], line["seen"]) == (200, "complete", True)
        assert (line["prompt_tokens"], line["completion_tokens"]) == tokens_of(answer)
        assert int(str(line["nano_usd"])) > 0
        assert line["tier_served"] == answer.headers["x-edgeforge-tier"]
    assert json.loads(fleet.edgeforge("usage", "quarantine", "--json")) == []
    [row] = json.loads(fleet.edgeforge("usage", "--json"))
    assert row["requests"] == len(lines)
    assert row["nano_usd"] == sum(int(str(line["nano_usd"])) for line in lines.values())


def test_what_failed_is_counted_and_free(fleet: Fleet, engine: FakeEngineProcess):
    engine.control(error_status=500)
    answer = fleet.agent("iad-1").chat()
    assert answer.status == 500
    trace_id = answer.headers["x-edgeforge-trace-id"]
    line = wait_until(lambda: exported(fleet).get(trace_id), 60, "the record to be counted")
    assert (line["status"], line["cause"], line["nano_usd"]) == (500, "failed", 0)
    assert json.loads(fleet.edgeforge("usage", "quarantine", "--json")) == []


def test_a_coordinator_that_is_killed_under_load_has_counted_every_answer_once(fleet: Fleet):
    before = exported(fleet)
    traces = set()
    for turn in range(12):
        answer = fleet.agent(("gru-1", "iad-1")[turn % 2]).chat(max_tokens=2)
        traces.add(answer.headers["x-edgeforge-trace-id"])
        if turn == 5:
            fleet.kill("coordinator")
        if turn == 9:
            fleet.start("coordinator")
    lines = wait_until(
        lambda: found if traces <= (found := exported(fleet)).keys() else None,
        90,
        "the records to be counted",
    )
    assert len(lines) == len(before) + 12
    assert json.loads(fleet.edgeforge("usage", "quarantine", "--json")) == []
    [row] = json.loads(fleet.edgeforge("usage", "--json"))
    assert row["requests"] == len(lines)
