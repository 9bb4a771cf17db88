"""Python's requests against a fleet: a session with kept connections, streams read by lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.conftest import WRITER
from tests.clients.test_openai_python import TEXT
from tests.support.fleet import AgentClient

requests = pytest.importorskip("requests", reason="requests cannot be installed here")
BODY = {"model": WRITER, "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def session(agent: AgentClient) -> Iterator[Any]:
    with requests.Session() as made:
        made.trust_env = False
        made.headers["authorization"] = f"Bearer {agent.api_key}"
        yield made


def test_answers_come_one_after_the_other_over_a_kept_connection(
    session: Any, agent: AgentClient
) -> None:
    for _ in range(3):
        answer = session.post(f"{agent.url}/v1/chat/completions", json=BODY, timeout=30)
        assert answer.json()["choices"][0]["message"]["content"] == TEXT
        assert answer.headers.get("connection", "").lower() != "close"


def test_a_stream_is_read_by_lines(session: Any, agent: AgentClient) -> None:
    url = f"{agent.url}/v1/chat/completions"
    with session.post(url, json=BODY | {"stream": True}, stream=True, timeout=30) as answer:
        lines = [line for line in answer.iter_lines(decode_unicode=True) if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    text = "".join(
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]
    )
    assert text == TEXT


def test_models_are_listed(session: Any, agent: AgentClient) -> None:
    answer = session.get(f"{agent.url}/v1/models", timeout=30)
    assert WRITER in {one["id"] for one in answer.json()["data"]}
