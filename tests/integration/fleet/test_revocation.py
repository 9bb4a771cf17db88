"""What is removed while streams run on it or for it: they end within 2 s, each with its reason."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator

import pytest

from tests.integration.fleet.test_keys import with_key
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet
from tests.support.twins import Twins, twin_fleet
from tests.support.waiting import wait_until, waited_s

WITHIN_S = 2.0


@contextlib.contextmanager
def held_stream(agent: AgentClient, model: str) -> Iterator[http.client.HTTPResponse]:
    """Open a stream whose first token has arrived; its engine waits after three."""
    with contextlib.closing(agent.connect(60.0)) as connection:
        messages = [{"role": "user", "content": "hello"}]
        body = json.dumps({"model": model, "messages": messages, "stream": True})
        headers = {"authorization": f"Bearer {agent.api_key}"}
        connection.request("POST", "/v1/chat/completions", body, headers)
        with contextlib.closing(connection.getresponse()) as response:
            assert response.status == 200
            while b"t2" not in response.readline():
                pass
            yield response


def end_of(stream: http.client.HTTPResponse, engine: FakeEngineProcess) -> dict[str, object]:
    """Return the error event that ends ``stream``, which must come in time."""
    took_s = waited_s(lambda: engine.running() == 0, 30, "the engine to be told")
    *_, event, data = [line for line in stream.read().decode().splitlines() if line]
    assert took_s < WITHIN_S
    assert event == "event: error"
    return dict(json.loads(data.removeprefix("data: "))["error"])


def test_a_revoked_keys_running_stream_ends_with_an_error_event_and_others_go_on(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    gru = fleet.agent("gru-1")
    made = json.loads(fleet.edgeforge("key", "create", "--account", "default", "--json"))
    revoked = with_key(gru, made["api_key"])
    wait_until(lambda: revoked.chat().status == 200, 30, "the new key to work")
    engine.control(hold_after_tokens=3)
    with held_stream(gru, gru.model) as other:
        with held_stream(revoked, gru.model) as stream:
            assert engine.running() == 2
            fleet.edgeforge("key", "revoke", made["id"])
            took_s = waited_s(lambda: engine.running() == 1, 30, "the engine to be told")
            assert took_s < WITHIN_S
            assert b'"code":"invalid_api_key"' in stream.read()
        last = wait_until(lambda: revoked_request(gru), 30, "the request to be logged")
        assert last["prompt_tokens"] == 7  # what it received is paid for
        engine.control()
        assert b"data: [DONE]" in other.read()


def told_of(agent: AgentClient, detail: str) -> int:
    """Return how many attempts at the newest three requests ended with ``detail``."""
    requests = agent.ask("GET", "/requests?limit=3")["requests"]
    details = [attempt["detail"] for one in requests for attempt in one["attempts"]]
    return details.count(detail)


def revoked_request(agent: AgentClient) -> dict[str, object]:
    """Return the record of the request that was cut, once there is one."""
    for one in agent.ask("GET", "/requests?limit=20")["requests"]:
        if [attempt["outcome"] for attempt in one["attempts"]] == ["revoked"]:
            return dict(one)
    return {}


def test_a_removed_deployments_running_stream_ends_with_an_error_event(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    gru = fleet.agent("gru-1")
    create = ("deployment", "create", "second", "--model", f"external/{gru.model}@1")
    fleet.edgeforge(*create, "--account", "default", "--budget-ms", "500", "--node", "iad-1")
    ask = {"model": "second", "messages": []}
    wait_until(lambda: gru.send(ask).status == 200, 30, "the deployment to be served")
    engine.control(hold_after_tokens=3)
    with held_stream(gru, "second") as stream:
        fleet.edgeforge("deployment", "rm", "second")
        assert end_of(stream, engine)["code"] == "model_not_found"


@pytest.fixture
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with twin_fleet(tmp_path_factory.mktemp("v"), hedge_ratio=0.0) as running:
        yield running


def test_streams_on_a_removed_node_are_replaced_continued_or_end_within_2_s(twins: Twins) -> None:
    """The removed node itself runs on: its link, its engine and its peer port."""
    fleet, agent, iad = twins.fleet, twins.agent, twins.iad
    model = f"external/{agent.model}@1"
    create = ("deployment", "create", "going-on", "--model", model, "--account", "default")
    nodes = ("--node", "iad-1", "--node", "gru-1")
    fleet.edgeforge(*create, "--budget-ms", "500", *nodes, "--continue-streams")
    ask = {"model": "going-on", "messages": []}
    wait_until(lambda: agent.send(ask).status == 200, 30, "the deployment to be served")
    iad.control(token_delay_ms=200, tokens=500)
    with held_stream(agent, agent.model) as ends, held_stream(agent, "going-on") as goes_on:
        iad.control(first_token_delay_ms=60_000)
        with contextlib.closing(agent.connect(60.0)) as connection:
            body = json.dumps({"model": agent.model, "messages": [], "stream": True})
            headers = {"authorization": f"Bearer {agent.api_key}"}
            connection.request("POST", "/v1/chat/completions", body, headers)
            wait_until(lambda: iad.running() == 3, 30, "a third stream to wait for its first token")
            fleet.edgeforge("node", "rm", "iad-1")
            assert waited_s(lambda: iad.running() == 0, 30, "the engine to be told") < WITHIN_S
            response = connection.getresponse()
            assert response.getheader("x-edgeforge-node") == "gru-1"
            assert b"data: [DONE]" in response.read()
        assert b"data: [DONE]" in goes_on.read()
        *_, event, data = [line for line in ends.read().decode().splitlines() if line]
    assert event == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"]["code"] == "engine_failed"
    # An answer is complete before its agent has recorded the request.
    wait_until(lambda: told_of(agent, "node iad-1 was removed") == 3, 30, "all three to be logged")
