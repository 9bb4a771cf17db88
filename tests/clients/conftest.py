"""One fleet for every client: IAD generates, GRU embeds, and each serves clients of both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import AgentClient, Fleet
from tests.support.waiting import wait_until

#: What the engines call their models.
SERVED, EMBEDDER = "acme-chat", "acme-embed"
#: What the registry calls it.
REGISTERED = f"external/{SERVED}@1"
#: What customers call it: answers carry this name.
WRITER = "assistant"


@pytest.fixture(scope="session")
def engine() -> Iterator[FakeEngineProcess]:
    with FakeEngineProcess(SERVED) as process:
        yield process


@pytest.fixture(scope="session")
def fleet(engine: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with (
        FakeEngineProcess(EMBEDDER) as embedder,
        Fleet(tmp_path_factory.mktemp("c"), [engine.url, embedder.url]) as running,
    ):
        embedder.stop()
        embedder.embeds = True
        embedder.start()
        running.configure("gru-1", "engine", mode="embed")
        for node in ("iad-1", "gru-1"):
            wait_until(lambda node=node: _embeds(running.agent(node)), 30, f"{node} to embed")
        asked = ("deployment", "create", WRITER, "--model", REGISTERED, "--account", "default")
        running.edgeforge(*asked, "--budget-ms", "1000")
        for agent in running.agents():
            wait_until(lambda agent=agent: _writes(agent), 30, f"{agent.node} to know {WRITER}")
        yield running


def _embeds(agent: AgentClient) -> bool:
    return agent.send({"model": EMBEDDER, "input": "a"}, path="/v1/embeddings").status == 200


def _writes(agent: AgentClient) -> bool:
    return agent.chat(model=WRITER).status == 200


@pytest.fixture
def agent(fleet: Fleet) -> AgentClient:
    """GRU, whose requests for text go over a hop to IAD."""
    return fleet.agent("gru-1")


@pytest.fixture(autouse=True)
def obedient(engine: FakeEngineProcess) -> None:
    engine.control()
    engine.forget()
