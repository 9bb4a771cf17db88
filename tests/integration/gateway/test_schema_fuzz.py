"""The request schema of every format, fuzzed through real agents: no body costs more than a 4xx."""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.formats import FORMATS
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Answer, Fleet
from tests.support.request_bodies import SCHEMAS, bodies

pytestmark = pytest.mark.timeout(300)

#: As configured by default.
MAX_N, MAX_PROMPT_LOGPROBS = 8, 5
#: What may be wrong with a body: the body, its model.
EXPECTED = {200, 400, 404}
EXAMPLES = 40
EVERY_WAY = pytest.mark.parametrize("node", ["iad-1", "gru-1"])


def is_shaped(path: str, answer: Answer) -> bool:
    """Whether an error is one in the words of ``path``."""
    told = answer.json()
    if FORMATS[path].is_anthropic:
        return told["type"] == "error" and bool(told["error"]["message"])
    return bool(told["error"]["message"]) and "type" in told["error"]


def assert_harmless(path: str, sent: dict[str, Any]) -> None:
    """What the engine was asked keeps every limit."""
    assert sent["cache_salt"]
    assert not sent.get("store")
    for name in FORMATS[path].rules.refused:
        assert not sent.get(name)
    for name, most in (("n", MAX_N), ("best_of", MAX_N), ("prompt_logprobs", MAX_PROMPT_LOGPROBS)):
        value = sent.get(name)
        assert not isinstance(value, int | float) or value <= most
    tools = sent.get("tools")
    listed = tools if isinstance(tools, list) else []
    kinds = [one.get("type") for one in listed if isinstance(one, dict)]
    assert "mcp" not in kinds


@EVERY_WAY
@pytest.mark.parametrize("path", list(SCHEMAS))
def test_no_body_of_any_schema_costs_more_than_a_shaped_400_and_the_connection_goes_on(
    fleet: Fleet, engine: FakeEngineProcess, path: str, node: str
) -> None:
    agent = fleet.agent(node)
    with closing(agent.connect()) as connection:
        connection.connect()
        attack_over(connection, agent, path)
    asked = [one["body"] for one in engine.requests() if one["path"] == path]
    assert asked or path == "/v1/embeddings", "nothing got as far as the engine"
    for sent in asked:
        assert_harmless(path, sent)
    assert "Traceback" not in fleet.log(node)


def attack_over(connection: HTTPConnection, agent: AgentClient, path: str) -> None:
    """Send fuzzed bodies over one connection, which must serve a right one afterwards."""
    own = connection.sock

    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(body=bodies(path, agent.model), ensure_ascii=st.booleans())
    def attack(body: dict[str, Any], ensure_ascii: bool) -> None:
        text = json.dumps(body, ensure_ascii=ensure_ascii)
        payload = text.encode("utf-8", "surrogatepass")
        answer = agent.send(payload, path=path, connection=connection)
        assert answer.status in EXPECTED, (answer.status, answer.body)
        assert answer.status == 200 or is_shaped(path, answer), answer.body
        assert connection.sock is own, "the connection was given up"

    attack()
    body = {"model": agent.model, "messages": [{"role": "user", "content": "hello"}]}
    assert agent.send(body, connection=connection).status == 200
    assert connection.sock is own
