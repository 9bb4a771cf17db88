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
#: Agents of programmers send 10,000 tokens of instructions and ask for 32,000.
CONTEXT_TOKENS = 65_536


@pytest.fixture(scope="session")
def engine() -> Iterator[FakeEngineProcess]:
    with FakeEngineProcess(SERVED, context_tokens=CONTEXT_TOKENS) as process:
        yield process


@pytest.fixture(scope="session")
def fleet(engine: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with (
        FakeEngineProcess(EMBEDDER) as embedder,
        Fleet(tmp_path_factory.mktemp("c"), [engine.url, embedder.url]) as running,
    ):
        running.let_embed("gru-1", embedder)
        deploy(running, WRITER)
        yield running


def deploy(fleet: Fleet, name: str) -> None:
    """Let every agent serve the model that generates under one more ``name``."""
    asked = ("deployment", "create", name, "--model", REGISTERED, "--account", "default")
    fleet.edgeforge(*asked, "--budget-ms", "1000")
    for agent in fleet.agents():
        wait_until(
            lambda agent=agent: agent.chat(model=name).status == 200, 30, f"{agent.node}: {name}"
        )


@pytest.fixture
def agent(fleet: Fleet) -> AgentClient:
    """GRU, whose requests for text go over a hop to IAD."""
    return fleet.agent("gru-1")


@pytest.fixture(autouse=True)
def obedient(request: pytest.FixtureRequest) -> None:
    """Every test of a client starts with an engine that behaves."""
    if "engine" in request.fixturenames or "agent" in request.fixturenames:
        engine = request.getfixturevalue("engine")
        engine.control()
        engine.forget()
