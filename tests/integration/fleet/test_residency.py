"""An account bound to Brazil, in real processes: no failure brings its prompts to the US."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.fleet import AgentClient, Answer
from tests.support.twins import MODEL, Twins, generations, twin_fleet
from tests.support.waiting import wait_until

#: In every prompt; the engines answer with words of their own.
PHRASE = "bem-te-vi-4711"
PROMPT = {"model": MODEL, "messages": [{"role": "user", "content": PHRASE}]}


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with twin_fleet(tmp_path_factory.mktemp("r"), hedge_ratio=1.0) as running:
        running.fleet.edgeforge("deployment", "set", MODEL, "--continue-streams")
        yield running


def bind(twins: Twins, *zones: str) -> dict[str, Any]:
    options = [word for zone in zones for word in ("--zone", zone)] or ["--any"]
    told = twins.fleet.edgeforge("account", "zones", "default", *options, "--json")
    return dict(json.loads(told))


@pytest.fixture
def bound(twins: Twins) -> Iterator[Twins]:
    """The account is bound to BR, and both agents know."""
    twins.gru.stop()
    twins.gru.start()
    bind(twins, "BR")
    wait_until(lambda: iad(twins).chat().status == 421, 30, "IAD to refuse")
    wait_until(lambda: twins.agent.send(PROMPT).status == 200, 30, "GRU to serve")
    for engine in (twins.iad, twins.gru):
        engine.control()
        engine.forget()
    yield twins
    assert not generations(twins.iad)


def iad(twins: Twins) -> AgentClient:
    return twins.fleet.agent("iad-1")


def ask(agent: AgentClient, **fields: Any) -> Answer:
    return agent.send(PROMPT | fields)


def test_outside_the_zone_it_is_refused_by_its_head_with_the_address_inside(bound: Twins) -> None:
    parts = urlsplit(iad(bound).url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0)), 10) as client:
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
            f"authorization: Bearer {bound.agent.api_key}\r\ncontent-length: 1000000\r\n\r\n"
        )
        client.sendall(head.encode())
        answered = http.client.HTTPResponse(client)
        answered.begin()  # an interim 100 would be skipped, and then nothing would come
        said = json.loads(answered.read())
    assert answered.status == 421
    assert answered.headers["connection"] == "close"
    assert answered.headers["x-edgeforge-in-zone"] == bound.agent.url
    assert said["error"]["code"] == "outside_residency"
    assert bound.agent.url in said["error"]["message"]
    messages = iad(bound).send({}, path="/v1/messages")
    assert messages.status == 421
    assert messages.json()["type"] == "error"


def test_a_dead_engine_in_the_zone_is_503_and_nobody_outside_is_asked(bound: Twins) -> None:
    bound.gru.kill()
    answers = [ask(bound.agent), ask(bound.agent, stream=True)]
    assert {one.status for one in answers} == {503}
    assert {one.json()["error"]["code"] for one in answers} == {"no_replica"}


def test_a_late_engine_in_the_zone_is_waited_for_and_no_second_copy_leaves_it(
    bound: Twins,
) -> None:
    bound.gru.control(first_token_delay_ms=1_500)
    answer = ask(bound.agent, stream=True)
    assert answer.status == 200
    assert answer.headers["x-edgeforge-node"] == "gru-1"
    assert [node for node, _ in bound.outcomes()] == ["gru-1"]


def test_a_stream_that_breaks_is_not_continued_outside(bound: Twins) -> None:
    bound.gru.control(cut_after_tokens=3, token_delay_ms=20)
    answer = ask(bound.agent, stream=True)
    assert "error" in json.loads(answer.events()[-1])
    assert {node for node, _ in bound.outcomes()} == {"gru-1"}


def test_operators_outside_the_zone_see_counts_and_times_and_no_names(bound: Twins) -> None:
    answer = ask(bound.agent)
    trace_id = answer.headers["x-edgeforge-trace-id"]
    shown = json.loads(bound.fleet.edgeforge("trace", "show", trace_id, "--json"))
    assert shown["withheld"]
    assert not {"deployment", "account", "model"} & {name for name, one in shown.items() if one}
    listed = json.loads(bound.fleet.edgeforge("trace", "ls", "--json"))
    (line,) = [one for one in listed["traces"] if one["trace_id"] == trace_id]
    assert line["withheld"]
    assert not line.get("deployment")


def test_a_stream_outside_ends_when_its_account_is_bound_meanwhile(twins: Twins) -> None:
    bind(twins)
    wait_until(lambda: models_of(iad(twins)) == 200, 30, "IAD to know the key again")
    refused = iad(twins).chat()  # the deployment, in the body, keeps its zones until it is updated
    assert refused.status == 421
    assert refused.headers["connection"] == "close"
    assert refused.headers["x-edgeforge-in-zone"] == twins.agent.url
    record = iad(twins).last_request()
    assert {record[name] for name in ("account", "deployment", "client_request_id")} == {""}
    kept = twins.fleet.edgeforge("trace", "ls", "--via", "iad-1", "--limit", "500", "--json")
    assert refused.headers["x-edgeforge-trace-id"] not in kept
    twins.fleet.edgeforge("deploy", "update", MODEL, "--anywhere")
    wait_until(lambda: iad(twins).chat().status == 200, 30, "IAD to serve again")
    twins.iad.control(tokens=2_000, token_delay_ms=20)
    answers: list[Answer] = []
    running = threading.Thread(target=lambda: answers.append(ask(iad(twins), stream=True)))
    running.start()
    wait_until(lambda: twins.iad.running(), 30, "the stream to run at IAD")
    bind(twins, "BR")
    running.join(30)
    (answer,) = answers
    assert answer.status == 200
    assert "may only be read in BR" in answer.events()[-1]
    wait_until(lambda: not twins.iad.running(), 30, "the engine outside to be left alone")
    twins.iad.control()
    twins.iad.forget()


def test_the_prompts_are_nowhere_outside_the_zone(bound: Twins) -> None:
    assert ask(bound.agent).status == 200
    inside = json.dumps(generations(bound.gru))
    assert PHRASE in inside, "the phrase would be found"
    folder = bound.fleet.state_dir
    for place in (folder / "agents" / "iad-1", folder / "logs", folder / "coordinator"):
        for path in place.rglob("*"):
            if path.is_file():
                assert PHRASE.encode() not in path.read_bytes(), path


def test_the_usage_of_a_bound_request_leaves_its_zone_as_sums_and_not_as_a_record(
    bound: Twins,
) -> None:
    before = counted(bound)
    trace_id = ask(bound.agent).headers["x-edgeforge-trace-id"]
    wait_until(lambda: counted(bound) > before, 30, "the request to be counted")
    lines = bound.fleet.edgeforge("usage", "export", "--json")
    assert trace_id not in lines


def models_of(agent: AgentClient) -> int:
    """The status of the list of models: of a request without a body."""
    connection = agent.connect()
    try:
        connection.request(
            "GET", "/v1/models", headers={"authorization": f"Bearer {agent.api_key}"}
        )
        return connection.getresponse().status
    finally:
        connection.close()


def counted(twins: Twins) -> int:
    """How many requests the coordinator has counted."""
    told = json.loads(twins.fleet.edgeforge("usage", "--json"))
    return sum(int(row["requests"]) for row in told)
